//! Reception over real sockets: the driver, STARTTLS, stops and slow clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use egret_mta::message::MessageId;
use egret_mta::reception::{
    Acceptor, Asked, Auth, AuthSettings, Credentials, Offered, Refusal, Settings, Taken, Verdict, serve,
};
use egret_shared::address::{Networks, private_networks};
use egret_shared::clock::UnixMs;
use egret_shared::net::tls::server_config;
use egret_shared::net::tls_client::{Check, ClientTls};
use egret_shared::text::Line;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);
const OPEN: &str = "EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n";

/// Hands on what it is offered, and refuses a message that asks for it.
struct Store(UnboundedSender<Offered>);

impl Acceptor for Store {
    async fn accept(&self, offered: Offered) -> Result<Taken, Refusal> {
        if &*offered.body == b"refuse me\r\n" {
            return Err(Refusal::new(451, (4, 3, 0), "asked to refuse"));
        }
        self.0.send(offered).map_err(|_| Refusal::new(421, (4, 3, 0), "test is over"))?;
        Ok(Taken::new(MessageId::generate()))
    }

    async fn authenticate(&self, _: SocketAddr, shown: Credentials) -> Verdict {
        match (shown.user.as_str(), shown.password.as_str()) {
            ("shop", "right") => Verdict::Right,
            ("busy", _) => Verdict::Unasked(Refusal::new(454, (4, 7, 0), "not now")),
            ("slow", _) => std::future::pending().await,
            _ => Verdict::Wrong,
        }
    }

    fn now(&self) -> UnixMs {
        UnixMs(1_700_000_000_000)
    }

    fn gate(&self, _: Asked) -> Option<Refusal> {
        None
    }
}

struct House {
    address: SocketAddr,
    offers: UnboundedReceiver<Offered>,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

/// Serves one client.
async fn house(change: impl FnOnce(&mut Settings)) -> House {
    let mut settings = Settings::new(Line::new("mx.test").expect("a line"));
    settings.relay_networks = private_networks();
    change(&mut settings);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let (sender, offers) = unbounded_channel();
    let stop = CancellationToken::new();
    let told = stop.clone();
    let served = tokio::spawn(async move {
        let (stream, client) = listener.accept().await.expect("a client");
        serve(stream, client, Arc::new(settings), Arc::new(Store(sender)), told).await;
    });
    House { address, offers, stop, served }
}

fn with_tls(settings: &mut Settings) {
    let made = rcgen::generate_simple_self_signed(vec!["mx.test".to_owned()]).expect("a certificate");
    let dir = tempfile::tempdir().expect("a directory");
    let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    settings.tls = Some(server_config(&certificate, &key).expect("a good pair"));
}

struct Client<S>(BufReader<S>);

impl Client<TcpStream> {
    async fn new(house: &House) -> Self {
        let mut client = Self(BufReader::new(TcpStream::connect(house.address).await.expect("connects")));
        assert_eq!(client.reply().await, "220 mx.test ESMTP Egret");
        client
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("sent");
        self.0.flush().await.expect("sent");
    }

    /// The last line of the next reply; empty at the end of the stream.
    async fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            tokio::time::timeout(PATIENCE, self.0.read_line(&mut line)).await.expect("a reply").expect("a reply");
            if line.get(3..4) != Some("-") {
                return line.trim_end().to_owned();
            }
        }
    }

    /// The codes of the next replies.
    async fn codes<const N: usize>(&mut self) -> [String; N] {
        let mut codes = [const { String::new() }; N];
        for code in &mut codes {
            *code = self.reply().await.chars().take(3).collect();
        }
        codes
    }

    /// Nothing but the end comes.
    async fn is_closed(&mut self) {
        let mut rest = Vec::new();
        tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest)).await.expect("an end").expect("an orderly end");
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}

#[tokio::test]
async fn messages_come_in_one_after_the_other() {
    let mut house = house(|_| ()).await;
    let mut client = Client::new(&house).await;
    client.say(&format!("{OPEN}DATA\r\n")).await;
    assert_eq!(client.codes().await, ["250", "250", "250", "354"]);
    client.say("..one\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.test>\r\nBDAT 5 LAST\r\ntwo\r\n").await;
    assert_eq!(client.codes().await, ["250", "250", "250", "250"]);
    client.say("MAIL FROM:<>\r\nRCPT TO:<c@d.test>\r\nBDAT 11 LAST\r\nrefuse me\r\nQUIT\r\n").await;
    assert_eq!(client.codes().await, ["250", "250", "451", "221"]);
    client.is_closed().await;
    house.served.await.expect("served");
    let first = house.offers.recv().await.expect("an offer");
    assert_eq!((&*first.body, first.protocol, first.sender.is_some()), (&b".one\r\n"[..], "ESMTP", true));
    let second = house.offers.recv().await.expect("an offer");
    assert_eq!((&*second.body, second.sender), (&b"two\r\n"[..], None));
    assert!(house.offers.recv().await.is_none());
}

#[tokio::test]
async fn a_large_message_comes_in_whole() {
    let mut house = house(|_| ()).await;
    let mut client = Client::new(&house).await;
    let body = "a line of a message, and not a short one\r\n..\r\n".repeat(50_000);
    client.say(&format!("{OPEN}DATA\r\n{body}.\r\nQUIT\r\n")).await;
    assert_eq!(client.codes().await, ["250", "250", "250", "354", "250", "221"]);
    let offer = house.offers.recv().await.expect("an offer");
    assert!(offer.body == body.replace("\r\n..", "\r\n."), "{} bytes", offer.body.len());
}

#[tokio::test]
async fn starttls_forgets_all_that_came_in_clear() {
    let mut house = house(with_tls).await;
    let mut client = Client::new(&house).await;
    client.say(OPEN).await;
    assert_eq!(client.codes().await, ["250", "250", "250"]);
    client.say("STARTTLS\r\n").await;
    assert_eq!(client.codes().await, ["220"]);
    let tls = ClientTls::new().expect("a provider");
    let stream = tls.handshake(Check::Nothing, "mx.test", client.0.into_inner()).await.expect("a handshake");
    let mut client = Client(BufReader::new(stream));
    client.say("MAIL FROM:<>\r\nDATA\r\n").await;
    assert_eq!(client.codes().await, ["503", "503"]);
    client.say(&format!("{OPEN}STARTTLS\r\nDATA\r\n")).await;
    assert_eq!(client.codes().await, ["250", "250", "250", "503", "354"]);
    client.say("x\r\n.\r\nQUIT\r\n").await;
    assert_eq!(client.codes().await, ["250", "221"]);
    let offer = house.offers.recv().await.expect("an offer");
    assert_eq!(offer.protocol, "ESMTPS");
    assert!(offer.tls.is_some_and(|tls| tls.starts_with("TLSv1_3 ")));
}

#[tokio::test]
async fn what_waits_in_clear_behind_starttls_closes_the_session() {
    for waiting in ["RSET\r\n", "NOOP", "\x16\x03\x01"] {
        let mut house = house(with_tls).await;
        let mut client = Client::new(&house).await;
        client.say(&format!("EHLO c\r\nSTARTTLS\r\n{waiting}")).await;
        assert_eq!(client.codes().await, ["250", "554"], "{waiting:?}");
        client.is_closed().await;
        assert!(house.offers.recv().await.is_none());
    }
}

#[tokio::test]
async fn commands_in_clear_instead_of_a_handshake_are_not_answered() {
    let house = house(with_tls).await;
    let mut client = Client::new(&house).await;
    client.say("EHLO c\r\nSTARTTLS\r\n").await;
    assert_eq!(client.codes().await, ["250", "220"]);
    client.say("EHLO c\r\nMAIL FROM:<a@b.test>\r\n").await;
    house.served.await.expect("served");
    let mut rest = Vec::new();
    // The end may be a reset: the server did not read what it could not use.
    let _ = client.0.read_to_end(&mut rest).await;
    assert!(!rest.windows(3).any(|w| w == b"250"), "{rest:?}");
}

#[tokio::test]
async fn a_stop_closes_an_idle_session_and_waits_for_an_open_transaction() {
    let idle = house(|_| ()).await;
    let mut client = Client::new(&idle).await;
    idle.stop.cancel();
    assert_eq!(client.reply().await, "421 4.3.2 service stops, try again");
    client.is_closed().await;

    let mut busy = house(|_| ()).await;
    let mut client = Client::new(&busy).await;
    client.say(&format!("{OPEN}DATA\r\n")).await;
    assert_eq!(client.codes().await, ["250", "250", "250", "354"]);
    busy.stop.cancel();
    client.say("last\r\n.\r\n").await;
    assert_eq!(client.codes().await, ["250", "421"]);
    client.is_closed().await;
    assert_eq!(&*busy.offers.recv().await.expect("an offer").body, b"last\r\n");
}

#[tokio::test]
async fn a_client_that_drips_is_closed_although_it_is_never_silent() {
    let quick = |settings: &mut Settings| {
        (settings.command_timeout, settings.data_timeout) = (Duration::from_millis(300), Duration::from_millis(300));
    };
    for opening in [String::new(), format!("{OPEN}DATA\r\n")] {
        let house = house(quick).await;
        let mut client = Client::new(&house).await;
        client.say(&opening).await;
        for _ in opening.lines() {
            assert_ne!(client.codes().await, ["421"]);
        }
        let (reader, mut writer) = client.0.into_inner().into_split();
        let mut reader = BufReader::new(reader);
        let drip = tokio::spawn(async move {
            while writer.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await.expect("a reply").expect("a reply");
        assert_eq!(line, "421 4.4.2 waited too long, closing\r\n");
        drip.abort();
    }
}

#[tokio::test]
async fn a_client_that_never_ends_its_message_can_still_read_why() {
    let mut house = house(|settings| settings.max_message_bytes = 1000).await;
    let mut client = Client::new(&house).await;
    client.say(&format!("{OPEN}DATA\r\n{}", "endless\r\n".repeat(120_000))).await;
    assert_eq!(client.codes().await, ["250", "250", "250", "354", "552"]);
    assert!(house.offers.recv().await.is_none());
}

#[tokio::test]
async fn a_smuggled_message_is_refused_and_the_session_is_closed() {
    let mut house = house(|_| ()).await;
    let mut client = Client::new(&house).await;
    let evil = "\r\n.\nMAIL FROM:<evil@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nspam\r\n.\r\nNOOP\r\n";
    client.say(&format!("{OPEN}DATA\r\nhello{evil}")).await;
    assert_eq!(client.codes().await, ["250", "250", "250", "354", "550"]);
    client.is_closed().await;
    assert!(house.offers.recv().await.is_none());
}

#[tokio::test]
async fn what_a_sender_wants_to_hear_comes_with_its_message() {
    let mut house = house(|_| ()).await;
    let mut client = Client::new(&house).await;
    // As long as RFC 3461 lets a command be.
    let long = format!("ORCPT=rfc822;{}@d.test", "x".repeat(486));
    assert_eq!(long.len(), "ORCPT=".len() + 500);
    client.say("EHLO c.test\r\nMAIL FROM:<a@b.test> RET=HDRS ENVID=id+2B1\r\n").await;
    client.say(&format!("RCPT TO:<c@d.test> NOTIFY=SUCCESS,FAILURE,DELAY {long}\r\n")).await;
    client.say("RCPT TO:<e@d.test> NOTIFY=NEVER,DELAY\r\nRCPT TO:<e@d.test> ORCPT=rfc822;+0D+0A\r\n").await;
    client.say("RCPT TO:<e@d.test>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n").await;
    assert_eq!(client.codes().await, ["250", "250", "250", "501", "501", "250", "354", "250", "221"]);
    let offered = house.offers.recv().await.expect("an offer");
    assert_eq!(offered.wish.envid.as_ref().map(Line::as_str), Some("id+1"));
    assert_eq!(offered.recipients.len(), 2, "what was refused is not there");
    let wish = offered.wishes.get(0).expect("a wish");
    assert_eq!(wish.original.as_ref().map(|original| original.address().len()), Some(493));
    assert!(offered.wishes.get(1).is_none());
    client.is_closed().await;
    house.served.await.expect("no panic");
}

/// `\0shop\0right`, and others in its place.
const SHOP: &str = "AUTH PLAIN AHNob3AAcmlnaHQ=\r\n";
const WRONG: &str = "AUTH PLAIN AHNob3AAd3Jvbmc=\r\n";
const BUSY: &str = "AUTH PLAIN AGJ1c3kAeA==\r\n";
const SLOW: &str = "AUTH PLAIN AHNsb3cAeA==\r\n";

/// Where nobody but users in TLS may send.
fn submission(settings: &mut Settings) {
    with_tls(settings);
    settings.relay_networks = Networks::default();
    settings.auth = AuthSettings { auth: Auth::Required, in_clear: Networks::default() };
}

/// Says EHLO, and goes on in TLS.
async fn secured(house: &House) -> Client<impl AsyncRead + AsyncWrite + Unpin + use<>> {
    let mut client = Client::new(house).await;
    client.say("EHLO c.test\r\nSTARTTLS\r\n").await;
    assert_eq!(client.codes().await, ["250", "220"]);
    let tls = ClientTls::new().expect("a provider");
    let stream = tls.handshake(Check::Nothing, "mx.test", client.0.into_inner()).await.expect("a handshake");
    let mut client = Client(BufReader::new(stream));
    client.say("EHLO c.test\r\n").await;
    assert_eq!(client.codes().await, ["250"]);
    client
}

#[tokio::test]
async fn users_log_in_under_tls_and_nobody_else_sends() {
    let mut house = house(submission).await;
    let mut client = Client::new(&house).await;
    client.say(&format!("{OPEN}{SHOP}")).await;
    assert_eq!(client.codes().await, ["250", "530", "503", "538"]);
    client.say("STARTTLS\r\n").await;
    assert_eq!(client.codes().await, ["220"]);
    let tls = ClientTls::new().expect("a provider");
    let stream = tls.handshake(Check::Nothing, "mx.test", client.0.into_inner()).await.expect("a handshake");
    let mut client = Client(BufReader::new(stream));
    client.say(&format!("{OPEN}{WRONG}{BUSY}MAIL FROM:<a@b.test>\r\n")).await;
    assert_eq!(client.codes().await, ["250", "530", "503", "535", "454", "530"]);
    client.say("AUTH LOGIN\r\n").await;
    assert_eq!(client.reply().await, "334 VXNlcm5hbWU6");
    client.say("c2hvcA==\r\n").await;
    assert_eq!(client.reply().await, "334 UGFzc3dvcmQ6");
    client.say("cmlnaHQ=\r\n").await;
    assert_eq!(client.codes().await, ["235"]);
    client.say("MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n").await;
    assert_eq!(client.codes().await, ["250", "250", "354", "250", "221"]);
    let offer = house.offers.recv().await.expect("an offer");
    assert_eq!((offer.protocol, offer.user.as_ref().map(Line::as_str)), ("ESMTPSA", Some("shop")));
}

#[tokio::test]
async fn who_guesses_is_closed_with_421() {
    let mut house = house(submission).await;
    let mut client = secured(&house).await;
    client.say(&format!("{WRONG}{WRONG}{WRONG}{SHOP}")).await;
    assert_eq!(client.codes().await, ["535", "535", "535", "421"]);
    client.is_closed().await;
    assert!(house.offers.recv().await.is_none());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_login() {
    let house = house(submission).await;
    let mut client = secured(&house).await;
    // The reply to NOOP says that what follows it is on its way; a stop before or after ends the session alike.
    client.say(&format!("NOOP\r\n{SLOW}")).await;
    assert_eq!(client.codes().await, ["250"]);
    house.stop.cancel();
    assert_eq!(client.codes().await, ["421"]);
    client.is_closed().await;
    house.served.await.expect("served");
}
