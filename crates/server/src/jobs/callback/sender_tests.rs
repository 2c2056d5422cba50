//! Where callbacks go, and where they do not: over receivers on this machine.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::{IntoResponse as _, Response},
};

use super::{
    resolver::Lookup,
    sender::{Message, Sender, SenderError},
    signature::SigningSecret,
};

/// Stands for a receiver that everybody may reach, by being allowed.
const ALLOWED: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Stands for what only this host can reach.
const FORBIDDEN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Answers as it was told, in turn; the last answer stays.
struct Names(Mutex<VecDeque<Vec<IpAddr>>>);

impl Names {
    fn new(answers: &[&[IpAddr]]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(answers.iter().map(|answer| answer.to_vec()).collect())))
    }
}

#[async_trait]
impl Lookup for Names {
    async fn addresses(&self, _name: &str) -> std::io::Result<Vec<IpAddr>> {
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        answer.ok_or_else(|| std::io::Error::other("no such name"))
    }
}

type Received = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// Listens at `address`, keeps what it receives, and answers so.
async fn receiver(
    address: IpAddr,
    answer: impl Fn() -> Response + Clone + Send + Sync + 'static,
) -> (SocketAddr, Received) {
    let received = Received::default();
    let kept = Arc::clone(&received);
    let router = Router::new().fallback(move |headers: HeaderMap, body: Bytes| async move {
        kept.lock().unwrap().push((headers, body));
        answer()
    });
    let listener = tokio::net::TcpListener::bind((address, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, received)
}

fn taken() -> Response {
    StatusCode::OK.into_response()
}

fn sender(names: Arc<Names>) -> Sender {
    let allowed = Arc::from([ALLOWED.to_string().parse().unwrap()]);
    Sender::new(names, allowed, SigningSecret::stored([7; 32]), Duration::from_secs(5)).unwrap()
}

async fn send(sender: &Sender, url: &str) -> Result<(), SenderError> {
    sender.send(url, Message { id: "msg_1", timestamp: 1_614_265_330, body: b"{\"a\": 1}".to_vec() }).await
}

fn count(received: &Received) -> usize {
    received.lock().unwrap().len()
}

#[tokio::test]
async fn a_callback_is_a_signed_post() {
    let (address, received) = receiver(ALLOWED, taken).await;
    let sender = sender(Names::new(&[&[ALLOWED]]));
    send(&sender, &format!("http://hook.example:{}/path", address.port())).await.unwrap();
    let received = received.lock().unwrap();
    let (headers, body) = &received[0];
    assert_eq!(
        (&**body, &headers["content-type"]),
        (&b"{\"a\": 1}"[..], &"application/json".parse().unwrap())
    );
    assert_eq!(
        (&headers["webhook-id"], &headers["webhook-timestamp"]),
        (&"msg_1".parse().unwrap(), &"1614265330".parse().unwrap())
    );
    let expected = SigningSecret::stored([7; 32]).sign("msg_1", 1_614_265_330, body).unwrap();
    assert_eq!(headers["webhook-signature"], expected.as_str());
}

#[tokio::test]
async fn a_name_that_leads_to_a_forbidden_address_too_leads_nowhere() {
    let (forbidden, received) = receiver(FORBIDDEN, taken).await;
    for answer in [&[FORBIDDEN][..], &[ALLOWED, FORBIDDEN], &[FORBIDDEN, ALLOWED]] {
        let error =
            send(&sender(Names::new(&[answer])), &format!("http://hook.example:{}/", forbidden.port())).await;
        assert!(matches!(error, Err(SenderError::Forbidden(_))), "{answer:?}: {error:?}");
    }
    assert_eq!(count(&received), 0);
}

#[tokio::test]
async fn an_answer_of_the_resolver_that_changes_is_judged_anew() {
    let (address, first) = receiver(ALLOWED, taken).await;
    let names = Names::new(&[&[ALLOWED], &[FORBIDDEN]]);
    let (sender, url) = (sender(names), format!("http://hook.example:{}/", address.port()));
    send(&sender, &url).await.unwrap();
    let error = send(&sender, &url).await;
    assert!(matches!(error, Err(SenderError::Forbidden(_))), "{error:?}");
    assert_eq!(count(&first), 1);
}

#[tokio::test]
async fn a_redirect_is_followed_where_a_callback_may_go_and_nowhere_else() {
    let (target, received) = receiver(ALLOWED, taken).await;
    let (forbidden, unreached) = receiver(FORBIDDEN, taken).await;
    let names = || Names::new(&[&[ALLOWED], &[FORBIDDEN]]);
    for (to, is_taken) in [
        (format!("http://{target}/"), true),
        (format!("http://{forbidden}/"), false),
        // The name is looked up once more, and leads elsewhere now.
        (format!("http://other.example:{}/", forbidden.port()), false),
        (format!("http://[::ffff:127.0.0.2]:{}/", forbidden.port()), false),
        ("file:///etc/passwd".to_owned(), false),
        (format!("http://user@{target}/"), false),
    ] {
        for status in [StatusCode::FOUND, StatusCode::TEMPORARY_REDIRECT] {
            let to = to.clone();
            let redirect = move || (status, [(LOCATION, to.clone())]).into_response();
            let (first, _) = receiver(ALLOWED, redirect).await;
            let sent = send(&sender(names()), &format!("http://hook.example:{}/", first.port())).await;
            assert_eq!(sent.is_ok(), is_taken, "{sent:?}");
        }
    }
    assert_eq!((count(&received), count(&unreached)), (2, 0));
    assert_eq!(received.lock().unwrap()[0].1, "{\"a\": 1}");
}

#[tokio::test]
async fn redirects_without_end_are_given_up() {
    let around = || (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, "/again")]).into_response();
    let (address, received) = receiver(ALLOWED, around).await;
    let sent = send(&sender(Names::new(&[])), &format!("http://{address}/")).await;
    assert!(matches!(sent, Err(SenderError::Redirects)), "{sent:?}");
    assert_eq!(count(&received), 4);
}

#[tokio::test]
async fn what_is_answered_otherwise_was_not_taken() {
    for (status, is_final) in [
        (StatusCode::INTERNAL_SERVER_ERROR, false),
        (StatusCode::NOT_FOUND, false),
        (StatusCode::SEE_OTHER, false),
        (StatusCode::GONE, true),
    ] {
        let (address, _) = receiver(ALLOWED, move || status.into_response()).await;
        let error = send(&sender(Names::new(&[])), &format!("http://{address}/")).await.unwrap_err();
        assert!(matches!(error, SenderError::Status(found) if found == status), "{error:?}");
        assert_eq!(error.is_final(), is_final);
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_is_waited_for_no_longer_than_the_deadline() {
    let listener = tokio::net::TcpListener::bind((ALLOWED, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let allowed = Arc::from([ALLOWED.to_string().parse().unwrap()]);
    let sender =
        Sender::new(Names::new(&[]), allowed, SigningSecret::stored([7; 32]), Duration::from_millis(200));
    let error = send(&sender.unwrap(), &format!("http://{address}/")).await.unwrap_err();
    assert!(matches!(error, SenderError::TimedOut(_)) && !error.is_final(), "{error:?}");
}
