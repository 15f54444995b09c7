//! Spend reports over real files, in a folder and on a real S3 server.

mod files;
mod formats;
mod groups;
mod s3;
#[expect(dead_code, reason = "the lake's own tests need more of it")]
#[path = "../../../lake/tests/lake/s3_server.rs"]
mod s3_server;
