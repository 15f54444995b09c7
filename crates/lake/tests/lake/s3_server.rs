//! A real S3 server on a port of its own, which can be told to lose answers.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::Mutex};

pub struct S3Server {
    endpoint: String,
    /// The next so many PUTs of Parquet files are done, but not answered.
    pub lost_answers: Arc<AtomicU32>,
    data: TempDir,
}

impl S3Server {
    pub async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join("bucket")).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(data.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single("key", "secret"));
        let s3 = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let lost_answers = Arc::new(AtomicU32::new(0));
        let losing = lost_answers.clone();
        // S3 compares and replaces an object, and reads it with its e-tag, in one step each. This server takes several, so it
        // gets one request at a time.
        let turn = Arc::new(Mutex::new(()));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (s3, losing, turn) = (s3.clone(), losing.clone(), turn.clone());
                let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let (s3, losing, turn) = (s3.clone(), losing.clone(), turn.clone());
                    async move {
                        let put = request.method() == hyper::Method::PUT;
                        let _alone = turn.lock().await;
                        let file = put && request.uri().path().ends_with(".parquet");
                        let answer = hyper::service::Service::call(&s3, request).await.map_err(|e| format!("{e:?}"))?;
                        let lose = |left: u32| left.checked_sub(1);
                        if file && losing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose).is_ok() {
                            // The connection is closed without a byte.
                            return Err("lost".to_owned());
                        }
                        Ok(answer)
                    }
                });
                tokio::spawn(async move {
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { endpoint, lost_answers, data }
    }

    /// What a client must be told.
    pub fn settings(&self) -> [(&'static str, String); 4] {
        [
            ("aws_endpoint_url", self.endpoint.clone()),
            ("aws_access_key_id", "key".to_owned()),
            ("aws_secret_access_key", "secret".to_owned()),
            ("aws_region", "us-east-1".to_owned()),
        ]
    }

    /// Where the server keeps the objects of `s3://bucket/`.
    pub fn folder(&self) -> PathBuf {
        self.data.path().join("bucket")
    }
}
