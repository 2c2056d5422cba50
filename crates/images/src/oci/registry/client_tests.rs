//! Requests against servers on this machine that mean harm.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use super::*;

/// A server that answers every request with what `answer` makes of its head, and remembers the heads.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        // It ends with the process.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let head = head.join("\n").to_ascii_lowercase();
                let text = answer(&head);
                log.lock().expect("nobody panics with it").push(head);
                // The client may have gone.
                let _ = stream.write_all(text.as_bytes());
                if text.ends_with(DRIPPING) {
                    while stream.write_all(b" ").is_ok() {
                        std::thread::sleep(PATIENCE / 10);
                    }
                }
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics with it").clone()
    }
}

/// The end of an answer after which a byte comes now and then, until the client goes away.
const DRIPPING: &str = "a document, ";

fn answer(status: &str, header: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{header}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn bearer(realm: &str) -> String {
    answer("401 Unauthorized", &format!("WWW-Authenticate: Bearer realm=\"{realm}\""), "")
}

fn password() -> Credentials {
    Credentials::Password { user: "user".to_owned(), password: "secret".to_owned() }
}

/// Long for servers that answer, and short for those that do not end.
const PATIENCE: Duration = Duration::from_secs(5);

fn ask(name: &str, credentials: Credentials) -> Result<Vec<u8>, RequestError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let host = Host { name: name.to_owned(), scheme: Scheme::Http, repository: "a".to_owned() };
    let mut client = Client::new(host, Some(credentials)).expect("a client");
    client.document_patience = PATIENCE;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(client.manifest("latest", "*/*", 1000))
}

#[test]
fn a_login_does_not_go_to_where_a_redirection_leads_nor_to_whom_is_named_there() {
    for credentials in [password(), Credentials::IdentityToken("secret".to_owned())] {
        let thief = Server::start(|_| answer("200 OK", "X: y", r#"{"token": "t"}"#));
        let realm = bearer(&format!("http://{}/token", thief.address));
        let storage = Server::start(move |_| realm.clone());
        let location = format!("Location: http://{}/x", storage.address);
        let registry = Server::start(move |_| answer("307 Temporary Redirect", &location, ""));
        let refused = ask(&registry.address, credentials);
        assert!(matches!(refused, Err(RequestError::Refused { .. })), "{refused:?}");
        assert_eq!(storage.asked().len(), 1);
        assert_eq!(thief.asked(), Vec::<String>::new());
    }
}

#[test]
fn a_registry_without_encryption_sends_nobody_elsewhere_without() {
    let registry = Server::start(|_| bearer("http://elsewhere.invalid/token"));
    let refused = ask(&registry.address, password());
    assert!(matches!(refused, Err(RequestError::Realm { .. })), "{refused:?}");
    assert_eq!(registry.asked().len(), 1);
}

#[test]
fn a_registry_that_gives_its_own_tokens_is_told_who_asks() {
    let tokens = Server::start(|_| answer("200 OK", "X: y", r#"{"token": "t"}"#));
    let realm = bearer(&format!("http://{}/token", tokens.address));
    let registry = Server::start(move |head| match head {
        head if head.contains("authorization: bearer t") => answer("200 OK", "X: y", "manifest"),
        _ => realm.clone(),
    });
    assert_eq!(ask(&registry.address, password()).expect("it is allowed"), b"manifest");
    let asked = tokens.asked();
    assert!(asked.len() == 1 && asked[0].contains("authorization: basic"), "{asked:?}");
}

#[test]
fn a_document_that_comes_by_drops_has_a_deadline() {
    let registry = Server::start(|_| format!("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{DRIPPING}"));
    let started = std::time::Instant::now();
    let refused = ask(&registry.address, password());
    assert!(matches!(refused, Err(RequestError::TooSlow { .. })), "{refused:?}");
    assert!(started.elapsed() < 10 * PATIENCE && registry.asked().len() == 1, "it is not asked again");
}
