//! A mail server that follows a script: for each connection, what to say and what to wait for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// One step of a script.
#[derive(Clone)]
pub enum Step {
    /// Write this.
    Say(&'static str),
    /// Read a line and note it.
    Hear,
    /// Read lines up to the lone dot and note them.
    Content,
    /// Read so many bytes and note them as one line.
    Take(usize),
    /// Do the server's side of a TLS handshake.
    Tls(TlsAcceptor),
    /// Read until the client closes; answer only QUIT.
    Listen,
    /// Close with a reset (in clear only).
    Reset,
    /// Write these bytes.
    Bytes(&'static [u8]),
    /// Write this byte by byte, over and over, until the client leaves.
    Drip(&'static str),
    /// Write this over and over as fast as it is taken, until the client leaves.
    Flood(&'static str),
    /// Read what has come, whatever it is.
    Any,
    /// Read until the client closes; never answer.
    Mute,
    /// Neither read nor write any more, and keep the connection.
    Hold,
    /// Write no more, and read on until the client closes.
    HalfClose,
    /// Nothing more may have come than was read; otherwise the script ends.
    Quiet,
    /// Answer each command as a good server does, until QUIT.
    Behave,
    /// Tell a waiting test that the script came this far.
    Reached(Arc<tokio::sync::Notify>),
}

pub use Step::{
    Any, Behave, Bytes, Content, Drip, Flood, HalfClose, Hear, Hold, Listen, Mute, Quiet, Reached, Reset, Say, Take,
    Tls,
};

/// What the server noted, one list of lines a connection, in the order in which they were accepted.
pub type Heard = Arc<Mutex<Vec<Vec<String>>>>;

/// The pause between two bytes that drip.
const PAUSE: Duration = Duration::from_millis(2);
/// Room for what a connection sends ahead of what is read: small, so that a server that stops reading is felt.
const RECEIVE_BYTES: usize = 16 << 10;

/// Serves each script on one connection, in order; further connections are closed at once.
pub async fn serve(at: &str, scripts: Vec<Vec<Step>>) -> (SocketAddr, Heard) {
    serve_then(at, scripts, Vec::new()).await
}

/// Serves each script on one connection, in order, and `last` on all that come later.
pub async fn serve_then(at: &str, scripts: Vec<Vec<Step>>, last: Vec<Step>) -> (SocketAddr, Heard) {
    let listener = TcpListener::bind(at).await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let heard = Heard::default();
    let noted = heard.clone();
    tokio::spawn(async move {
        let mut scripts = scripts.into_iter();
        while let Ok((stream, _)) = listener.accept().await {
            let number = {
                let mut noted = noted.lock();
                noted.push(Vec::new());
                noted.len() - 1
            };
            let script = scripts.next().unwrap_or_else(|| last.clone());
            let _ = socket2::SockRef::from(&stream).set_recv_buffer_size(RECEIVE_BYTES);
            let _ = stream.set_nodelay(true);
            tokio::spawn(play(stream, script, noted.clone(), number));
        }
    });
    (address, heard)
}

trait Both: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Both for T {}

/// Follows a script on a connection.
pub async fn play(stream: TcpStream, script: Vec<Step>, heard: Heard, number: usize) {
    let mut stream: Option<TcpStream> = Some(stream);
    let mut tls: Option<tokio_rustls::server::TlsStream<TcpStream>> = None;
    let note = |line: String| heard.lock()[number].push(line);
    for step in script {
        let talk: &mut dyn Both = match (&mut tls, &mut stream) {
            (Some(tls), _) => tls,
            (None, Some(clear)) => clear,
            (None, None) => return,
        };
        match step {
            Say(text) => {
                if talk.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
                let _ = talk.flush().await;
            }
            Hear => match line(talk).await {
                Some(line) => note(line),
                None => return note("EOF".to_owned()),
            },
            Take(bytes) => {
                let mut taken = vec![0; bytes];
                match talk.read_exact(&mut taken).await {
                    Ok(_) => note(String::from_utf8_lossy(&taken).into_owned()),
                    Err(_) => return note("EOF".to_owned()),
                }
            }
            Content => loop {
                match line(talk).await {
                    Some(dot) if dot == "." => break,
                    Some(line) => note(line),
                    None => return note("EOF".to_owned()),
                }
            },
            Listen => {
                while let Some(line) = line(talk).await {
                    if line == "QUIT" {
                        let _ = talk.write_all(b"221 bye\r\n").await;
                        let _ = talk.flush().await;
                    }
                    note(line);
                }
            }
            Bytes(bytes) => {
                let _ = talk.write_all(bytes).await;
                let _ = talk.flush().await;
            }
            Drip(text) => return drip(talk, text).await,
            Flood(text) => while talk.write_all(text.as_bytes()).await.is_ok() {},
            Any => {
                let _ = talk.read(&mut [0; 4096]).await;
            }
            Mute => while line(talk).await.is_some() {},
            Hold => std::future::pending().await,
            HalfClose => {
                let _ = talk.shutdown().await;
                while line(talk).await.is_some() {}
            }
            Quiet => {
                if tokio::time::timeout(Duration::ZERO, talk.read_u8()).await.is_ok() {
                    return note("TOGETHER".to_owned());
                }
            }
            Behave => return behave(talk, note).await,
            Reached(notify) => notify.notify_one(),
            Tls(acceptor) => match stream.take() {
                Some(clear) => match acceptor.accept(clear).await {
                    Ok(upgraded) => tls = Some(upgraded),
                    Err(_) => return note("handshake failed".to_owned()),
                },
                None => return,
            },
            Reset => {
                if let Some(clear) = stream.take() {
                    egret_shared::net::socket::reset_on_close(&clear);
                }
            }
        }
    }
}

async fn line(stream: &mut dyn Both) -> Option<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await {
            Ok(b'\n') => {
                let line = String::from_utf8_lossy(&line);
                return Some(line.trim_end_matches('\r').to_owned());
            }
            Ok(byte) => line.push(byte),
            Err(_) => return None,
        }
    }
}

/// Writes `text` byte by byte for ever.
async fn drip(stream: &mut dyn Both, text: &str) {
    for byte in text.bytes().cycle() {
        if stream.write_all(&[byte]).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A good server: greets, offers PIPELINING and CHUNKING, takes all.
async fn behave(stream: &mut dyn Both, note: impl Fn(String)) {
    let mut answer = "220 good.test\r\n";
    loop {
        if stream.write_all(answer.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        let Some(command) = line(stream).await else { return };
        let mut words = command.split(' ');
        answer = match words.next().unwrap_or_default() {
            "EHLO" => "250-good.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
            "DATA" => "354 go\r\n",
            "QUIT" => "221 bye\r\n",
            _ => "250 good\r\n",
        };
        if let ("BDAT", Some(Ok(bytes))) = (&command[..command.len().min(4)], words.next().map(str::parse)) {
            let _ = stream.read_exact(&mut vec![0; bytes]).await;
        }
        if command == "DATA" {
            let _ = stream.write_all(answer.as_bytes()).await;
            while line(stream).await.is_some_and(|line| line != ".") {}
            answer = "250 good\r\n";
        }
        note(command);
    }
}

/// A server's side of TLS with this certificate.
pub fn acceptor_with(certificate: &CertificateDer<'static>, key: PrivateKeyDer<'static>) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a pair");
    Arc::new(config).into()
}
