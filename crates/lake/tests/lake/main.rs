//! The lake against a real PostgreSQL, on local folders and on a real S3 server.

mod compact;
mod disk;
mod export;
mod format;
mod ledger;
mod manifest;
mod s3;
mod s3_server;
mod verify;
