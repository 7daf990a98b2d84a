//! TLS towards clients, and client certificates as users.

use std::sync::Arc;

use egret_tests::peer::tls::self_signed;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use super::support::{Client, HELLO, House, request};

struct Files {
    dir: tempfile::TempDir,
    server: CertificateDer<'static>,
}

/// A server certificate, an authority for clients, and a client's certificate for `mta1.test`.
fn files() -> Files {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
    let (certificate, key) = self_signed(&["proxy.test"]).expect("a certificate");
    write("server.pem", &certificate);
    write("server.key", &key);
    let mut authority = CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("an authority");
    write("authority.pem", &issuer.pem());
    for name in ["mta1.test", "stranger.test"] {
        let key = KeyPair::generate().expect("a key");
        let made = CertificateParams::new(vec![name.to_owned()]).expect("a name").signed_by(&key, &issuer);
        write(&format!("{name}.pem"), &made.expect("signed").pem());
        write(&format!("{name}.key"), &key.serialize_pem());
    }
    let server = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM");
    Files { dir, server }
}

fn keys(files: &Path, more: &str) -> String {
    let at = files.display();
    format!("tls_certificate = \"{at}/server.pem\"\ntls_private_key = \"{at}/server.key\"\n{more}")
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

fn secure(files: &Files, stream: TcpStream, own: Option<&str>) -> Secure {
    let mut roots = RootCertStore::empty();
    roots.add(files.server.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let builder = builder.with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let file = |kind: &str| files.dir.path().join(format!("{name}.{kind}"));
            let certificate = CertificateDer::from_pem_file(file("pem")).expect("PEM");
            let key = PrivateKeyDer::from_pem_file(file("key")).expect("PEM");
            builder.with_client_auth_cert(vec![certificate], key).expect("a pair")
        }
    };
    let name = ServerName::try_from("proxy.test").expect("a name");
    let session = ClientConnection::new(Arc::new(config), name).expect("a session");
    StreamOwned::new(session, stream)
}

/// Greets and connects over TLS; the reply's code.
fn dial(stream: &mut Secure, house: &House, to: std::net::SocketAddr) -> std::io::Result<u8> {
    stream.write_all(HELLO)?;
    let mut two = [0; 2];
    stream.read_exact(&mut two)?;
    if two != [5, 0] {
        return Ok(two[1]);
    }
    stream.write_all(&request(2, std::net::SocketAddr::new(house.sources[0], 0)))?;
    stream.read_exact(&mut [0; 10])?;
    stream.write_all(&request(1, to))?;
    let mut reply = [0; 10];
    stream.read_exact(&mut reply)?;
    Ok(reply[1])
}

#[test]
fn sessions_run_over_tls_and_in_clear_if_that_is_allowed() {
    let files = files();
    let house = House::start(&keys(files.dir.path(), "tls_optional = true"), "");
    let remote = house.remote(2525);
    let mut stream = secure(&files, TcpStream::connect(house.at).expect("connects"), None);
    assert_eq!(dial(&mut stream, &house, remote.address()).expect("TLS"), 0);
    let (mut accepted, from) = remote.accept();
    assert_eq!(from, house.sources[0]);
    let body = vec![b'x'; 1 << 20];
    let speaking = std::thread::spawn(move || {
        accepted.say(&body);
        accepted.finish();
        accepted.rest()
    });
    let mut bytes = Vec::new();
    // The proxy says goodbye in TLS when the destination has finished.
    stream.read_to_end(&mut bytes).expect("an orderly end");
    assert_eq!(bytes.len(), 1 << 20);
    stream.write_all(b"last words").expect("sent");
    stream.conn.send_close_notify();
    stream.flush().expect("sent");
    drop(stream);
    assert_eq!(speaking.join().expect("well").0, b"last words");
    // In clear, on the same port.
    house.connected(remote.address());
    let line = format!("egret_proxy_certificate_expiry_timestamp_seconds{{listener=\"{}\"}}", house.at);
    assert!(house.metrics().contains(&line));
}

#[test]
fn without_tls_nothing_is_served_where_tls_is_wanted() {
    let files = files();
    let house = House::start(&keys(files.dir.path(), ""), "");
    let mut client = Client::to(house.at);
    client.say(HELLO);
    assert_eq!(client.rest().0, b"");
    house.measures(&format!("egret_proxy_tls_failures_total{{listener=\"{}\"}} 1", house.at));
}

#[test]
fn a_certificate_names_its_user() {
    let files = files();
    let authority =
        format!("auth = \"certificate\"\ntls_client_authorities = \"{}/authority.pem\"", files.dir.path().display());
    let house = House::start(&keys(files.dir.path(), &authority), "[user.\"mta1.test\"]\n");
    let remote = house.remote(2525);
    let connect = || TcpStream::connect(house.at).expect("connects");
    let stream = connect();
    let address = stream.local_addr().expect("bound");
    let mut known = secure(&files, stream, Some("mta1.test"));
    assert_eq!(dial(&mut known, &house, remote.address()).expect("TLS"), 0);
    drop(known);
    drop(remote.accept());
    assert_eq!(house.record(address)["user"].as_str(), Some("mta1.test"));
    let mut stranger = secure(&files, connect(), Some("stranger.test"));
    assert_eq!(
        dial(&mut stranger, &house, remote.address()).expect("TLS"),
        0xFF,
        "known to the authority, but no user"
    );
    let mut nobody = secure(&files, connect(), None);
    assert!(dial(&mut nobody, &house, remote.address()).is_err(), "no certificate at all");
}
