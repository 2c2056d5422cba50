//! A server of object storage that speaks S3, in this process, and that fails where a test wants it to.
//!
//! Its objects are files beneath a directory, which tests may look at and change. Faults happen in HTTP itself: a
//! connection is cut, an answer is another one, a byte is not what it was.

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use hyper::{
    Method, Request, Response,
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use s3s::{
    Body,
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use tokio::sync::oneshot;

/// The bucket that there is.
pub const BUCKET: &str = "llm-firecracker";

const KEY_ID: &str = "E2EACCESSKEY";
const SECRET: &str = "e2e-secret-access-key";

/// How a request fails.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is answered with this status, S3's code and headers.
    Refused(u16, &'static str, &'static [(&'static str, &'static str)]),
    /// The connection ends after so many bytes of the request's body.
    CutRequest(usize),
    /// The connection ends after so many bytes of the answer's body.
    CutAnswer(usize),
    /// A bit of this byte of the answer's body is another one.
    Flipped(usize),
    /// It is never answered.
    Silence,
}

/// Which requests fail.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Those with this method,
    pub method: Method,
    /// whose path holds this,
    pub part: &'static str,
    /// but for so many,
    pub after: usize,
    /// and so many of them,
    pub times: usize,
    /// in this way.
    pub fault: Fault,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    requests: Vec<(Method, String)>,
}

/// A server. Dropping it ends it.
pub struct ObjectStoreServer {
    address: SocketAddr,
    root: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ObjectStoreServer {
    /// Starts one with an empty bucket.
    pub fn start() -> Self {
        let root =
            tempfile::tempdir_in(crate::build_directory()).expect("the build directory can be written");
        std::fs::create_dir(root.path().join(BUCKET)).expect("a directory can be made");
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        listener.set_nonblocking(true).expect("sockets can be set so");
        let address = listener.local_addr().expect("it is bound");
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).expect("a directory"));
        builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        let service = builder.build();
        let state = Arc::new(Mutex::new(State::default()));
        let (stop, stopped) = oneshot::channel();
        let seen = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = runtime.expect("a runtime can be made");
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, service, seen) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { address, root, state, stop: Some(stop), thread: Some(thread) }
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the bucket's objects are, as files.
    pub fn bucket(&self) -> PathBuf {
        self.root.path().join(BUCKET)
    }

    /// Has `command` use this server, by the environment alone.
    pub fn serves<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("AWS_") || name.to_ascii_lowercase().ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        command
            .env("AWS_ACCESS_KEY_ID", KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("AWS_ENDPOINT_URL_S3", self.endpoint())
            .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
            .env("AWS_CONFIG_FILE", "/nonexistent")
    }

    /// Has requests fail.
    pub fn fail(&self, rule: Rule) {
        self.state().rules.push(rule);
    }

    /// Has no more requests fail.
    pub fn heal(&self) {
        self.state().rules.clear();
    }

    /// How many requests there were with this method, of objects whose path holds `part`.
    pub fn requests(&self, method: &Method, part: &str) -> usize {
        self.state().requests.iter().filter(|(seen, path)| seen == method && path.contains(part)).count()
    }

    /// Forgets the requests that there were.
    pub fn forget(&self) {
        self.state().requests.clear();
    }

    /// The files of the bucket's objects beneath a folder.
    pub fn objects(&self, folder: &str) -> Vec<PathBuf> {
        fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(&self.bucket().join(folder), &mut found);
        found.sort();
        found
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ObjectStoreServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, service: S3Service, state: Arc<Mutex<State>>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
    while let Ok((stream, _)) = listener.accept().await {
        let (service, state) = (service.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let answer = service_fn(|request| answer(request, &service, &state));
            // The client may go away at any time, and a fault looks like that from here.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// What makes hyper cut a connection.
type Cut = Box<dyn std::error::Error + Send + Sync>;

async fn answer(
    request: Request<Incoming>,
    service: &S3Service,
    state: &Mutex<State>,
) -> Result<Response<Body>, Cut> {
    let fault = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        state.requests.push((method.clone(), path.clone()));
        chosen(&mut state.rules, &method, &path)
    };
    match fault {
        None => served(request.map(Body::from), service).await,
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::Refused(status, code, headers)) => {
            // As a server that has read the request does.
            let _ = request.into_body().collect().await;
            let text = format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>by a test</Message></Error>"
            );
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            Ok(response.body(Body::http_body(
                Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {}),
            ))?)
        }
        Some(Fault::CutRequest(bytes)) => {
            let mut pieces = request.into_body().into_data_stream();
            let mut seen = 0;
            while let Some(piece) = pieces.next().await {
                seen += piece?.len();
                if seen > bytes {
                    break;
                }
            }
            Err("cut by a test".into())
        }
        Some(Fault::CutAnswer(bytes)) => {
            let response = served(request.map(Body::from), service).await?;
            Ok(response.map(|body| {
                changed(body, move |at, data| if at + data.len() <= bytes { Some(data) } else { None })
            }))
        }
        Some(Fault::Flipped(byte)) => {
            let response = served(request.map(Body::from), service).await?;
            Ok(response.map(|body| {
                changed(body, move |at, data| {
                    let mut data = data.to_vec();
                    if let Some(byte) = byte.checked_sub(at).and_then(|within| data.get_mut(within)) {
                        *byte ^= 1;
                    }
                    Some(data.into())
                })
            }))
        }
    }
}

fn chosen(rules: &mut [Rule], method: &Method, path: &str) -> Option<Fault> {
    let rule =
        rules.iter_mut().find(|rule| rule.method == method && path.contains(rule.part) && rule.times > 0)?;
    if rule.after > 0 {
        rule.after -= 1;
        return None;
    }
    rule.times -= 1;
    Some(rule.fault.clone())
}

async fn served(request: Request<Body>, service: &S3Service) -> Result<Response<Body>, Cut> {
    service.call(request).await.map_err(|error| format!("{error:?}").into())
}

/// A body whose data, of which some bytes came before, are what `change` makes of them. Nothing cuts the connection.
fn changed(body: Body, change: impl Fn(usize, Bytes) -> Option<Bytes> + Send + Sync + 'static) -> Body {
    let pieces = BodyStream::new(body).scan((0, false), move |(at, is_cut), frame| {
        let frame = match frame.map(Frame::into_data) {
            _ if *is_cut => None,
            Ok(Ok(data)) => {
                let length = data.len();
                let changed = change(*at, data);
                *at += length;
                *is_cut = changed.is_none();
                Some(changed.map(Frame::data).ok_or_else(|| Cut::from("cut by a test")))
            }
            Ok(Err(other)) => Some(Ok(other)),
            Err(error) => Some(Err(error)),
        };
        std::future::ready(frame)
    });
    Body::http_body_unsync(StreamBody::new(pieces))
}
