//! A bucket whose server means harm.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    sync::atomic::{AtomicU64, Ordering},
};

use futures_util::{StreamExt as _, stream};

use super::*;

/// A bucket whose server sends `start`, and then spaces without end. How many bytes it could send is counted.
fn endless(start: &'static str) -> (Bucket, Arc<AtomicU64>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    // It ends with the process.
    std::thread::spawn(move || {
        let blanks = vec![b' '; 1 << 16];
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{start}");
            let mut is_there = stream.write_all(head.as_bytes()).is_ok();
            // More than anybody should take, and less than a machine has.
            while is_there && counter.fetch_add(1 << 16, Ordering::Relaxed) < 1 << 30 {
                is_there = stream.write_all(&blanks).is_ok();
            }
        }
    });
    let settings = BucketSettings {
        address: BucketAddress::S3 { name: "bucket".to_owned(), prefix: String::new() },
        endpoint: Some(format!("http://{address}")),
        region: "us-east-1".to_owned(),
        credentials: Credentials::Static {
            access_key_id: "key".to_owned(),
            secret_access_key: "secret".to_owned(),
            session_token: None,
        },
        make_directory: false,
    };
    (Bucket::open(&settings).unwrap(), sent)
}

#[tokio::test]
async fn a_listing_without_end_is_not_read_to_it() {
    let (bucket, sent) = endless("<?xml version=\"1.0\"?><ListBucketResult>");
    let refused = bucket.list("rootfs").await.unwrap_err();
    assert!(matches!(refused.fault, Fault::TooLarge { .. }), "{refused:?}");
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 64 << 20, "{sent} bytes were taken");
}

#[tokio::test]
async fn an_object_that_comes_by_drops_has_a_deadline() {
    let drops = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((Ok(Bytes::from_static(b"x")), ()))
    });
    let patience = Duration::from_millis(500);
    let refused = collect(drops.take(1000).boxed(), 1000, patience).await;
    assert!(matches!(refused, Err(Fault::Silent { .. })), "{refused:?}");
    let at_once = stream::iter(["a", "b"]).map(|piece| Ok(Bytes::from_static(piece.as_bytes())));
    assert_eq!(collect(at_once, 2, Duration::from_secs(60)).await.unwrap(), "ab");
}
