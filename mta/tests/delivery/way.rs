//! TLS and proxies: how the session gets to the server.

use std::net::SocketAddr;
use std::sync::Arc;

use egret_mta::event::record::Kind;
use egret_mta::message::Verdict;
use egret_mta::routing::source::{Credentials, Dialect, Proxy, Way};
use egret_mta::shaping::options::Tls as TlsMode;
use egret_shared::fault::{Fault, Party, Reason};
use egret_shared::net::tls_client::ClientTls;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::bench::{COUNTED, EHLO, FROM, bench, greeting, script, taken};
use crate::smtp::{Hear, Listen, Reset, Say, Step, Tls, acceptor_with, serve};

fn acceptor() -> (TlsAcceptor, rustls::pki_types::CertificateDer<'static>) {
    let key = rcgen::generate_simple_self_signed(vec!["mx0.test".to_owned()]).expect("a certificate");
    let certificate = key.cert.der().clone();
    let secret = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).expect("a key");
    (acceptor_with(&certificate, secret), certificate)
}

fn starttls(acceptor: TlsAcceptor) -> Vec<Step> {
    let offer = "250-mx.test\r\n250 STARTTLS\r\n";
    vec![Say("220 mx.test\r\n"), Hear, Say(offer), Hear, Say("220 go\r\n"), Tls(acceptor), Hear, Say(EHLO)]
}

#[tokio::test]
async fn tls_is_used_where_it_is_offered_and_checked_where_it_is_required() {
    let (acceptor, certificate) = acceptor();
    for (mode, knows_root, want) in [
        (TlsMode::OpportunisticInsecure, false, Verdict::Delivered),
        (TlsMode::RequiredInsecure, false, Verdict::Delivered),
        (TlsMode::Required, true, Verdict::Delivered),
        (TlsMode::Required, false, COUNTED),
        (TlsMode::Opportunistic, true, Verdict::Delivered),
        // Not in clear either: that would be less than any certificate.
        (TlsMode::Opportunistic, false, COUNTED),
    ] {
        let steps = script(&[starttls(acceptor.clone()), taken(), vec![Listen]]);
        let (at, _) = serve("127.0.0.1:0", vec![steps]).await;
        let mut bench = bench(&[at]);
        bench.options.tls.enable_tls = mode;
        if knows_root {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(certificate.clone()).expect("a root");
            bench.tls = ClientTls::with_roots(roots).expect("a provider");
        }
        let store = bench.store.clone();
        let ticket = store.add(&["a@b.test"], "x\r\n");
        let end = bench.run(vec![ticket]).await;
        assert_eq!(end.verdicts(), [want], "{mode:?}: {}", end.words());
        let tls = store.events.lock().last().and_then(|e| e.tls.clone());
        assert_eq!(tls.is_some_and(|tls| tls.starts_with("TLSv1_3 ")), want == Verdict::Delivered);
    }
}

#[tokio::test]
async fn a_failed_handshake_is_followed_by_clear_text_only_if_tls_is_not_required() {
    let broken = || {
        let offer = "250-mx.test\r\n250 STARTTLS\r\n";
        vec![Say("220 mx.test\r\n"), Hear, Say(offer), Hear, Say("220 go\r\n"), Hear]
    };
    for (mode, want) in [(TlsMode::OpportunisticInsecure, Verdict::Delivered), (TlsMode::RequiredInsecure, COUNTED)] {
        let again = script(&[greeting(), taken(), vec![Listen]]);
        let (at, heard) = serve("127.0.0.1:0", vec![script(&[broken(), vec![Say("garbage\r\n")]]), again]).await;
        let mut bench = bench(&[at]);
        bench.options.tls.enable_tls = mode;
        let ticket = bench.store.add(&["a@b.test"], "x\r\n");
        let end = bench.run(vec![ticket]).await;
        assert_eq!(end.verdicts(), [want], "{mode:?}: {}", end.words());
        assert_eq!(heard.lock().len(), if want == COUNTED { 1 } else { 2 });
    }
}

#[tokio::test]
async fn broken_tls_is_remembered_for_a_time_where_clear_text_will_do() {
    let offer = "250-mx.test\r\n250 STARTTLS\r\n";
    let broken = vec![Say("220 mx.test\r\n"), Hear, Say(offer), Hear, Say("220 go\r\n"), Hear, Say("garbage\r\n")];
    let clear = vec![Say("220 mx.test\r\n"), Hear, Say(offer)];
    let clear = || script(&[clear.clone(), taken_in_lock_step(), vec![Listen]]);
    for (span, mode, connections, want) in [
        (60, TlsMode::OpportunisticInsecure, 3, [Verdict::Delivered; 2]),
        (0, TlsMode::OpportunisticInsecure, 4, [Verdict::Delivered; 2]),
        (60, TlsMode::RequiredInsecure, 2, [COUNTED; 2]),
    ] {
        let scripts = match connections {
            3 => vec![broken.clone(), clear(), clear()],
            4 => vec![broken.clone(), clear(), broken.clone(), clear()],
            _ => vec![broken.clone(), broken.clone()],
        };
        let (at, heard) = serve("127.0.0.1:0", scripts).await;
        let memory = egret_mta::delivery::HostMemory::default();
        let mut verdicts = Vec::new();
        for _ in 0..2 {
            let mut bench = bench(&[at]);
            bench.options.tls.enable_tls = mode;
            bench.options.tls.remember_broken_tls = std::time::Duration::from_secs(span);
            bench.known = memory.clone();
            let ticket = bench.store.add(&["a@b.test"], "x\r\n");
            verdicts.extend(bench.run(vec![ticket]).await.verdicts());
        }
        assert_eq!((verdicts, heard.lock().len()), (want.to_vec(), connections), "{span} {mode:?}");
    }
}

fn taken_in_lock_step() -> Vec<Step> {
    let answers = ["250 a\r\n", "250 b\r\n", "354 c\r\n"].map(|answer| vec![Hear, Say(answer)]).concat();
    [answers, vec![crate::smtp::Content, Say("250 d\r\n")]].concat()
}

#[tokio::test]
async fn a_refused_starttls_is_followed_by_clear_text_where_that_will_do() {
    for (mode, want) in [(TlsMode::Opportunistic, Verdict::Delivered), (TlsMode::Required, COUNTED)] {
        let offer = "250-mx.test\r\n250 STARTTLS\r\n";
        let refused = vec![Say("220 mx.test\r\n"), Hear, Say(offer), Hear, Say("454 4.7.0 not now\r\n")];
        let (at, _) = serve("127.0.0.1:0", vec![script(&[refused, taken_in_lock_step(), vec![Listen]])]).await;
        let mut bench = bench(&[at]);
        bench.options.tls.enable_tls = mode;
        let ticket = bench.store.add(&["a@b.test"], "x\r\n");
        let end = bench.run(vec![ticket]).await;
        assert_eq!(end.verdicts(), [want], "{mode:?}: {}", end.words());
    }
}

#[tokio::test]
async fn a_proxy_that_dies_in_the_handshake_is_not_the_destinations_fault() {
    let offer = "250-mx.test\r\n250 STARTTLS\r\n";
    let steps = vec![Say("220 mx.test\r\n"), Hear, Say(offer), Hear, Say("220 go\r\n"), Hear, Reset];
    let (at, _) = serve("127.0.0.1:0", vec![steps]).await;
    let answers = vec![(3, vec![5, 0]), (10, success(FROM)), (10, success(FROM))];
    let (proxy, _) = proxy(answers, Some(at)).await;
    let mut bench = bench(&[at]);
    bench.way = through(proxy, Dialect::Socks5, None);
    bench.options.tls.enable_tls = TlsMode::Required;
    let ticket = bench.store.add(&["a@b.test"], "x\r\n");
    let end = bench.run(vec![ticket]).await;
    assert_eq!((end.settled.len(), end.returned.len()), (0, 1), "{}", end.words());
    assert_eq!(end.fault.map(|fault| fault.party()), Some(Party::Proxy));
}

#[tokio::test]
async fn our_own_certificate_is_shown_and_suites_can_be_chosen() {
    let key = rcgen::generate_simple_self_signed(vec!["out.a.test".to_owned()]).expect("a certificate");
    let directory = tempfile::tempdir().expect("a directory");
    let (certificate, secret) = (directory.path().join("own.pem"), directory.path().join("own.key"));
    std::fs::write(&certificate, key.cert.pem()).expect("written");
    std::fs::write(&secret, key.signing_key.serialize_pem()).expect("written");
    let mut authorities = rustls::RootCertStore::empty();
    authorities.add(key.cert.der().clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider.clone());
    let own = rcgen::generate_simple_self_signed(vec!["mx0.test".to_owned()]).expect("a certificate");
    let server_key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(clients.build().expect("a verifier"))
        .with_single_cert(vec![own.cert.der().clone()], server_key)
        .expect("a pair");
    let suite = "TLS13_CHACHA20_POLY1305_SHA256".to_owned();
    let steps = script(&[starttls(Arc::new(config).into()), taken(), vec![Listen]]);
    let (at, _) = serve("127.0.0.1:0", vec![steps]).await;
    let mut bench = bench(&[at]);
    bench.tls =
        ClientTls::configured(Some((&certificate, &secret)), std::slice::from_ref(&suite), None).expect("a set-up");
    let store = bench.store.clone();
    let ticket = store.add(&["a@b.test"], "x\r\n");
    let end = bench.run(vec![ticket]).await;
    assert_eq!(end.verdicts(), [Verdict::Delivered], "{}", end.words());
    assert_eq!(store.events.lock()[0].tls, Some(format!("TLSv1_3 {suite}")));
    let error = ClientTls::configured(None, &["TLS_ROT13".to_owned()], None).err().expect("unknown").to_string();
    assert!(error.contains("TLS_ROT13") && error.contains(&suite), "{error}");
}

#[tokio::test]
async fn bytes_before_the_handshake_are_not_taken_for_replies_in_it() {
    let offer = "250-mx.test\r\n250 STARTTLS\r\n";
    let injected = vec![Say("220 mx.test\r\n"), Hear, Say(offer), Hear, Say("220 go\r\n250 evil\r\n"), Listen];
    let (at, _) = serve("127.0.0.1:0", vec![injected]).await;
    let bench = bench(&[at]);
    let ticket = bench.store.add(&["a@b.test"], "x\r\n");
    let end = bench.run(vec![ticket]).await;
    assert_eq!(
        (end.verdicts(), end.words()),
        (vec![COUNTED], "421 4.5.0 data before the TLS handshake at STARTTLS".to_owned())
    );
}

/// A proxy that reads `reads` bytes and answers, step by step, then relays to `to`, if it is to.
async fn proxy(steps: Vec<(usize, Vec<u8>)>, to: Option<SocketAddr>) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.2:0").await.expect("loopback");
    let at = listener.local_addr().expect("bound");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let noted = heard.clone();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("a client");
        for (length, answer) in steps {
            let mut bytes = vec![0; length];
            client.read_exact(&mut bytes).await.expect("the request");
            noted.lock().extend_from_slice(&bytes);
            client.write_all(&answer).await.expect("answered");
        }
        if let Some(to) = to {
            let mut server = TcpStream::connect(to).await.expect("the server");
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    });
    (at, heard)
}

fn through(address: SocketAddr, dialect: Dialect, credentials: Option<(&str, &str)>) -> Way {
    let credentials = credentials.map(|(u, p)| Credentials { username: u.to_owned(), password: p.to_owned() });
    Way::Proxy(Arc::new(Proxy { name: "p".into(), address, dialect, credentials, tls: None, admin: None }))
}

fn success(from: [u8; 4]) -> Vec<u8> {
    [&[5, 0, 0, 1][..], &from, &[0, 9]].concat()
}

#[tokio::test]
async fn mail_leaves_through_each_kind_of_proxy() {
    let user = "from-127.0.0.7";
    let auth = 3 + user.len() + 2;
    for (dialect, credentials, steps) in [
        (Dialect::Socks5, None, vec![(3, vec![5, 0]), (10, success(FROM)), (10, success(FROM))]),
        (
            Dialect::Connect,
            Some(("from-{source}", "pw")),
            vec![(4, vec![5, 2]), (auth, vec![1, 0]), (10, success([0, 0, 0, 0]))],
        ),
        (Dialect::ProxyV1, None, vec![("PROXY TCP4 127.0.0.7 127.0.0.1 0 12345\r\n".len(), vec![])]),
        (Dialect::ProxyV2, None, vec![(28, vec![])]),
    ] {
        let (at, _) = serve("127.0.0.1:0", vec![script(&[greeting(), taken(), vec![Listen]])]).await;
        let (proxy, heard) = proxy(steps, Some(at)).await;
        let mut bench = bench(&[at]);
        bench.way = through(proxy, dialect, credentials);
        let store = bench.store.clone();
        let ticket = store.add(&["a@b.test"], "x\r\n");
        let end = bench.run(vec![ticket]).await;
        assert_eq!(end.verdicts(), [Verdict::Delivered], "{dialect:?} {:?}", end.fault);
        let event = store.events.lock()[0].clone();
        assert_eq!((event.proxy, event.source_address), (Some("p".to_owned()), Some(FROM.into())));
        let chooses_by = match dialect {
            Dialect::Connect => user.as_bytes().to_vec(),
            Dialect::ProxyV1 => b"127.0.0.7".to_vec(),
            _ => FROM.to_vec(),
        };
        assert!(heard.lock().windows(chooses_by.len()).any(|w| w == chooses_by), "{dialect:?}");
    }
}

#[tokio::test]
async fn a_fault_on_the_way_names_its_party_and_burns_no_attempt() {
    let to = SocketAddr::from(([127, 0, 0, 1], 2525));
    let line = Fault::new(Reason::SourceNotPlumbed, "127.0.0.7 to x").smtp_line("s-1").into_bytes();
    let refused = vec![5, 1, 0, 1, 0, 0, 0, 10, 0, 99];
    for (dialect, steps, want) in [
        (Dialect::Socks5, vec![(3, vec![5, 0]), (10, refused)], Reason::SourceNotPlumbed),
        (Dialect::Socks5, vec![(3, vec![5, 0]), (10, success([9, 9, 9, 9]))], Reason::ProxyDialect),
        (Dialect::Socks5, vec![(3, vec![])], Reason::ProxyUnspecified),
        (Dialect::ProxyV2, vec![(28, line)], Reason::SourceNotPlumbed),
    ] {
        let (proxy, _) = proxy(steps, None).await;
        let mut bench = bench(&[to, to]);
        bench.way = through(proxy, dialect, None);
        let store = bench.store.clone();
        let ticket = store.add(&["a@b.test"], "x\r\n");
        let end = bench.run(vec![ticket]).await;
        assert_eq!(end.fault.map(|f| f.reason), Some(want));
        assert_eq!((end.settled.len(), end.returned.len()), (0, 1));
        assert_eq!(store.kinds(), [Kind::Fault]);
    }
}

/// An admin address that answers one request with a session's record.
async fn admin(record: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.3:0").await.expect("loopback");
    let at = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("a client");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(client.read_u8().await.expect("the request"));
        }
        assert!(request.starts_with(b"GET /v1/sessions/127.0.0."), "{}", String::from_utf8_lossy(&request));
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{record}", record.len());
        client.write_all(answer.as_bytes()).await.expect("answered");
    });
    at
}

/// A proxy that takes headers and closes.
async fn mute() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.2:0").await.expect("loopback");
    let at = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let _ = client.read_exact(&mut [0; 28]).await;
        }
    });
    at
}

#[tokio::test]
async fn a_proxy_that_ends_without_a_word_is_asked_why() {
    let to = SocketAddr::from(([127, 0, 0, 1], 2525));
    for (record, want) in [
        (r#"{"reason":"source_ports_exhausted","errno":99,"detail":"127.0.0.7 to x"}"#, Reason::SourcePortsExhausted),
        (r#"{"end":"closed","closed_by":"remote"}"#, Reason::RemoteClosedPreBanner),
        (r#"{"reason":"sunspots"}"#, Reason::RemoteClosedPreBanner),
        ("not JSON", Reason::RemoteClosedPreBanner),
    ] {
        let at = mute().await;
        let mut bench = bench(&[to]);
        let asked = admin(record).await;
        let proxy = Proxy {
            name: "p".into(),
            address: at,
            dialect: Dialect::ProxyV2,
            credentials: None,
            tls: None,
            admin: Some(asked),
        };
        bench.way = Way::Proxy(Arc::new(proxy));
        let ticket = bench.store.add(&["a@b.test"], "x\r\n");
        let store = bench.store.clone();
        bench.run(vec![ticket]).await;
        assert_eq!(store.events.lock()[0].reason, Some(want), "{record}");
    }
}

/// Without a proxy that answers, a session that breaks says nothing of the destination.
#[tokio::test]
async fn a_session_that_breaks_with_its_proxy_counts_as_no_attempt() {
    let (at, _) = serve("127.0.0.1:0", vec![script(&[greeting(), vec![Hear, Reset]])]).await;
    let steps = vec![(3, vec![5, 0]), (10, success(FROM)), (10, success(FROM))];
    let (proxy, _) = proxy(steps, Some(at)).await;
    let mut bench = bench(&[at]);
    bench.way = through(proxy, Dialect::Socks5, None);
    let store = bench.store.clone();
    let ticket = store.add(&["a@b.test"], "x\r\n");
    let end = bench.run(vec![ticket]).await;
    assert_eq!((end.settled.len(), end.returned.len()), (0, 1), "{}", end.words());
    assert_eq!(end.fault.map(|fault| fault.party()), Some(Party::Proxy));
    assert_eq!(store.kinds(), [Kind::Fault]);
}
