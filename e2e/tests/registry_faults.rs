//! Whatever a registry, a network, a disk or a signal does to a download, it is gone on with or told plainly, and what
//! was there stays.

use std::{fs, path::PathBuf, sync::OnceLock, time::Duration};

use e2e::{
    TestHost, eventually,
    mounted::Mounted,
    registry_images::{Images, PYTHON, SMALL, USER, from_docker, layer_of},
    registry_server::{Exchange, Fault, Proxy},
    running::{Ended, Running},
};
use rustix::process::Signal;

/// This host cannot do it.
const HOST: i32 = 3;

/// How long a command may take to end, on a busy machine.
const SECONDS: Duration = Duration::from_secs(20);

/// How much of a layer comes before something happens.
const PART: u64 = 1_000_000;

/// The small image's only layer: digest and length.
fn layer() -> &'static (String, u64) {
    static LAYER: OnceLock<(String, u64)> = OnceLock::new();
    LAYER.get_or_init(|| layer_of(&Images::prepared().layout(), "small", 0))
}

fn is_layer(request: &Exchange) -> bool {
    request.path.contains(&layer().0)
}

fn pull(host: &TestHost, address: &str) -> Ended {
    Ended::new(&from_docker(host, &format!("{address}/{SMALL}"), &[]).output().unwrap())
}

fn works(host: &TestHost, address: &str) {
    let ended = pull(host, address);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{ended:?}");
    nothing_is_left(host);
    assert!(host.image().exists() && !partial(host).exists());
}

fn fails(host: &TestHost, address: &str, expected: &[&str]) {
    let ended = pull(host, address);
    assert_eq!((ended.code, ended.stdout.as_str()), (HOST, ""), "{ended:?}");
    for part in expected {
        assert!(ended.stderr.contains(part), "{part:?} is not in {ended:?}");
    }
    nothing_is_left(host);
}

fn nothing_is_left(host: &TestHost) {
    assert_eq!(host.leftovers().unwrap(), Vec::<PathBuf>::new());
    assert_eq!(host.processes().unwrap(), Vec::<String>::new());
}

fn partial(host: &TestHost) -> PathBuf {
    host.data().join("layers").join(&layer().0).with_extension("partial")
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_was() {
    let registry = Images::prepared().registry();
    for fault in [Fault::CutAfter(PART), Fault::TruncateTo(PART)] {
        let proxy = Proxy::start(registry.address, move |request, earlier| match earlier {
            0 if is_layer(request) => fault.clone(),
            _ => Fault::None,
        });
        works(&TestHost::empty(), &proxy.address);
        let exchanges = proxy.exchanges_about(&layer().0);
        let ranges: Vec<_> = exchanges.iter().map(|exchange| exchange.range).collect();
        assert_eq!(ranges, [None, Some(PART)], "{exchanges:?}");
        assert_eq!(exchanges.iter().map(|exchange| exchange.sent).sum::<u64>(), layer().1);
    }
}

#[test]
fn a_download_that_is_always_cut_fails_and_the_next_command_goes_on() {
    let registry = Images::prepared().registry();
    // Goes on twice, and not once more.
    let proxy = Proxy::start(registry.address, |request, earlier| match earlier {
        _ if !is_layer(request) => Fault::None,
        0 | 1 => Fault::CutAfter(PART),
        _ => Fault::CutAfter(0),
    });
    let host = TestHost::empty();
    fails(&host, &proxy.address, &[&format!("cannot download the layer {}", layer().0), "hint: "]);
    assert!(!host.image().exists());
    assert_eq!(fs::metadata(partial(&host)).unwrap().len(), 2 * PART);
    let whole = Proxy::start(registry.address, |_, _| Fault::None);
    works(&host, &whole.address);
    let exchanges = whole.exchanges_about(&layer().0);
    assert_eq!(
        (exchanges.len(), exchanges[0].range, exchanges[0].sent),
        (1, Some(2 * PART), layer().1 - 2 * PART)
    );
}

#[test]
fn a_server_that_begins_anew_each_time_is_given_up() {
    let registry = Images::prepared().registry();
    // A byte and nothing in turns, and never the rest.
    let proxy = Proxy::start(registry.address, |request, earlier| {
        if !is_layer(request) {
            return Fault::None;
        }
        let body = if earlier % 2 == 0 { "x" } else { "" };
        Fault::Answer(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            layer().1
        ))
    });
    fails(
        &TestHost::empty(),
        &proxy.address,
        &[&format!("cannot download the layer {}", layer().0), "hint: "],
    );
}

#[test]
fn a_layer_that_is_another_is_refused_and_not_kept() {
    let registry = Images::prepared().registry();
    let flipping =
        Proxy::start(
            registry.address,
            |request, _| {
                if is_layer(request) { Fault::Flip(PART) } else { Fault::None }
            },
        );
    let host = TestHost::empty();
    fails(
        &host,
        &flipping.address,
        &["is not what the registry delivers: its SHA-256 is ", "hint: try again"],
    );
    assert!(!partial(&host).exists() && !host.image().exists());
    works(&host, &registry.address.to_string());
    // Damaged on the disk since: told, thrown away, and downloaded again.
    let cached = partial(&host).with_extension("");
    let mut bytes = fs::read(&cached).unwrap();
    bytes[100] ^= 1;
    fs::write(&cached, bytes).unwrap();
    let before = fs::read(host.image()).unwrap();
    fails(
        &host,
        &registry.address.to_string(),
        &["layer 1 of ", "is damaged: its SHA-256 is", "hint: pull it again"],
    );
    assert!(fs::read(host.image()).unwrap() == before, "the old image stays");
    works(&host, &registry.address.to_string());
}

#[test]
fn manifests_and_configurations_that_are_others_are_refused() {
    let images = Images::prepared();
    let registry = images.registry();
    for (about, expected) in
        [("/blobs/", "the configuration of "), ("/manifests/sha256:", "the manifest of ")]
    {
        let proxy = Proxy::start(registry.address, move |request, _| {
            let is_meant = request.path.contains(about) && !is_layer(request);
            if is_meant { Fault::Flip(30) } else { Fault::None }
        });
        let host = TestHost::empty();
        let image = format!("{}/{}", proxy.address, e2e::registry_images::INDEX);
        let ended = Ended::new(&from_docker(&host, &image, &[]).output().unwrap());
        assert_eq!(ended.code, HOST, "{ended:?}");
        assert!(ended.stderr.contains(expected) && ended.stderr.contains("has the SHA-256"), "{ended:?}");
        assert!(!host.image().exists());
    }
}

#[test]
fn a_registry_that_is_busy_is_asked_again_when_it_wants() {
    let registry = Images::prepared().registry();
    let proxy = Proxy::start(registry.address, |request, earlier| match earlier {
        0 if is_layer(request) => Fault::status("503 Service Unavailable", &[]),
        0 if request.path.contains("/manifests/") => {
            Fault::status("429 Too Many Requests", &["Retry-After: 2"])
        }
        _ => Fault::None,
    });
    let started = std::time::Instant::now();
    works(&TestHost::empty(), &proxy.address);
    assert!(started.elapsed() >= Duration::from_secs(2), "it was asked again too early");
    assert_eq!(proxy.exchanges_about(&layer().0).len(), 2);
    let busy =
        Proxy::start(registry.address, |_, _| Fault::status("429 Too Many Requests", &["Retry-After: 0"]));
    fails(
        &TestHost::empty(),
        &busy.address,
        &["wants fewer requests (429 Too Many Requests)", "hint: wait a while"],
    );
    let broken = Proxy::start(registry.address, |_, _| Fault::status("500 Internal Server Error", &[]));
    fails(
        &TestHost::empty(),
        &broken.address,
        &["answered 500 Internal Server Error", "hint: try again later"],
    );
}

#[test]
fn answers_without_end_are_not_read_to_it() {
    let registry = Images::prepared().registry();
    for about in ["/manifests/", "/blobs/"] {
        let proxy = Proxy::start(registry.address, move |request, _| {
            if request.path.contains(about) { Fault::Endless } else { Fault::None }
        });
        fails(&TestHost::empty(), &proxy.address, &["sent more than "]);
        let sent: u64 = proxy.exchanges().iter().map(|exchange| exchange.sent).sum();
        assert!(sent < 32 << 20, "{sent} bytes");
    }
}

#[test]
fn no_credentials_go_to_where_a_registry_sends_for_its_layers() {
    let images = Images::prepared();
    let (private, public) = (images.private_registry(), images.registry());
    let elsewhere = Proxy::start(public.address, |_, _| Fault::None);
    let port = elsewhere.address.rsplit(':').next().unwrap().to_owned();
    for target in [elsewhere.address.clone(), format!("localhost:{port}")] {
        let before = Proxy::start(private.address, move |request, _| match request.authorization {
            Some(_) if is_layer(request) => {
                let location = format!("Location: http://{target}{}?signature=secret-query", request.path);
                Fault::status("307 Temporary Redirect", &[&location])
            }
            _ => Fault::None,
        });
        let (user, password) = USER;
        let config = Images::docker_config(&before.address, user, password);
        let host = TestHost::empty();
        let mut command = from_docker(&host, &format!("{}/{SMALL}", before.address), &[]);
        let ended = Ended::new(&command.env("DOCKER_CONFIG", config.path()).output().unwrap());
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(before.exchanges().iter().any(|exchange| exchange.authorization.is_some()));
    }
    let exchanges = elsewhere.exchanges();
    assert!(
        exchanges.len() >= 2 && exchanges.iter().all(|exchange| exchange.authorization.is_none()),
        "{exchanges:?}"
    );
    // What grants access there is in no error either.
    let location = "Location: http://127.0.0.1:1/x?signature=secret-query";
    let closed = Proxy::start(public.address, move |request, _| {
        if is_layer(request) { Fault::status("307 Temporary Redirect", &[location]) } else { Fault::None }
    });
    let ended = pull(&TestHost::empty(), &closed.address);
    assert!(ended.code == HOST && !ended.stderr.contains("secret-query"), "{ended:?}");
}

#[test]
fn a_server_that_falls_silent_is_asked_again_and_a_signal_ends_the_wait() {
    let registry = Images::prepared().registry();
    let host = TestHost::empty();
    let silent = Proxy::start(registry.address, |_, _| Fault::Silent);
    let running =
        Running::start(&mut from_docker(&host, &format!("{}/{SMALL}", silent.address), &["--plain-http"]));
    eventually("the server is asked", SECONDS, || !silent.exchanges().is_empty()).unwrap();
    running.signal(Signal::INT);
    let ended = running.end_within(Duration::from_secs(5)).unwrap();
    assert_eq!(ended.code, 130, "{ended:?}");
    nothing_is_left(&host);
    // Half a minute later it is asked for the rest.
    let proxy = Proxy::start(registry.address, |request, earlier| match earlier {
        0 if is_layer(request) => Fault::SilentAfter(PART),
        _ => Fault::None,
    });
    works(&host, &proxy.address);
    let ranges: Vec<_> = proxy.exchanges_about(&layer().0).iter().map(|exchange| exchange.range).collect();
    assert_eq!(ranges, [None, Some(PART)]);
}

/// A command whose download has come so far and no further.
fn downloading(host: &TestHost, proxy: &Proxy) -> Running {
    let running = Running::start(&mut from_docker(host, &format!("{}/{SMALL}", proxy.address), &[]));
    let arrived = || fs::metadata(partial(host)).is_ok_and(|metadata| metadata.len() == PART);
    eventually("a part of the layer is there", SECONDS, arrived).unwrap();
    running
}

#[test]
fn signals_and_kills_during_a_download_leave_what_has_come_and_the_old_image() {
    let registry = Images::prepared().registry();
    let host = TestHost::empty();
    fs::create_dir_all(host.data().join("images")).unwrap();
    fs::write(host.image(), "the old image").unwrap();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::KILL, 137)] {
        let _ = fs::remove_file(partial(&host));
        let proxy = Proxy::start(registry.address, |request, _| {
            if is_layer(request) { Fault::SilentAfter(PART) } else { Fault::None }
        });
        let running = downloading(&host, &proxy);
        running.signal(signal);
        let ended = running.end_within(SECONDS).unwrap();
        assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{ended:?}");
        nothing_is_left(&host);
        assert_eq!(fs::read_to_string(host.image()).unwrap(), "the old image");
        assert_eq!(fs::metadata(partial(&host)).unwrap().len(), PART);
    }
    let proxy = Proxy::start(registry.address, |_, _| Fault::None);
    works(&host, &proxy.address);
    assert_eq!(proxy.exchanges_about(&layer().0)[0].range, Some(PART));
    assert_ne!(fs::metadata(host.image()).unwrap().len(), 13);
}

#[test]
fn signals_and_kills_while_the_image_is_made_leave_the_old_one() {
    let registry = Images::prepared().registry();
    let host = TestHost::empty();
    let image = format!("{}/{PYTHON}", registry.address);
    fs::create_dir_all(host.data().join("images")).unwrap();
    fs::write(host.image(), "the old image").unwrap();
    for (signal, code, step) in [
        (Signal::INT, 130, "uncompressing the layers"),
        (Signal::INT, 130, "writing the image"),
        (Signal::TERM, 143, "computing the image's digest"),
        (Signal::KILL, 137, "uncompressing the layers"),
        (Signal::KILL, 137, "writing the image"),
    ] {
        let mut running = Running::start(&mut from_docker(&host, &image, &[]));
        running.wait_until_said(step).unwrap();
        running.signal(signal);
        let ended = running.end_within(SECONDS).unwrap();
        assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{step}: {ended:?}");
        assert_eq!(fs::read_to_string(host.image()).unwrap(), "the old image", "{step}");
        if signal != Signal::KILL {
            nothing_is_left(&host);
        }
    }
    let ended = Ended::new(&from_docker(&host, &image, &[]).output().unwrap());
    assert_eq!(ended.code, 0, "{ended:?}");
    nothing_is_left(&host);
}

#[test]
fn a_disk_that_fills_up_is_told_and_the_old_image_stays() {
    let registry = Images::prepared().registry();
    let address = registry.address.to_string();
    // Not even the layer; the layer alone; the layer, and it uncompressed.
    for mebibytes in [4, 9, 16] {
        let disk = Mounted::small(mebibytes);
        let host = TestHost::at(disk.path());
        fs::create_dir_all(host.data().join("images")).unwrap();
        fs::write(host.image(), "the old image").unwrap();
        fails(&host, &address, &["o space left on device", "hint: free some space"]);
        assert_eq!(fs::read_to_string(host.image()).unwrap(), "the old image");
    }
    let disk = Mounted::small(40);
    works(&TestHost::at(disk.path()), &address);
}
