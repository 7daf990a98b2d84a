//! Other people's programs beside a fleet: Postfix with mailboxes of its own, HAProxy, Python.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use egret_tests::harness::{Fleet, Namespace, Program, addresses, ask, binary, eventually};
use egret_tests::peer::postfix;
use egret_tests::peer::tls::self_signed;
use tempfile::TempDir;

/// More lines of main.cf: mail for the users of `store.test` is kept, a file each.
const MAILBOXES: &str = "\
virtual_mailbox_domains = store.test
virtual_mailbox_base = @PATH@/mail
virtual_mailbox_maps = texthash:@PATH@/users
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
smtpd_tls_cert_file = @PATH@/certificate.pem
smtpd_tls_key_file = @PATH@/key.pem
";

/// A Postfix that keeps the mail of its users; it is stopped when this is dropped.
pub struct Postfix {
    pub smtp: SocketAddr,
    directory: TempDir,
    master: Program,
}

impl Postfix {
    /// Starts one with more lines of main.cf, unless Postfix cannot run here, which is told.
    pub fn start(users: &[&str], settings: &str) -> Option<Self> {
        if let Some(obstacle) = postfix::obstacle() {
            eprintln!("skipped: {obstacle}");
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("written");
        let users: Vec<String> = users.iter().map(|user| format!("{user}@store.test {user}/\n")).collect();
        write("users", &users.concat());
        let (certificate, key) = self_signed(&["postfix.test"]).expect("a certificate");
        write("certificate.pem", &certificate);
        write("key.pem", &key);
        let mail = directory.path().join("mail");
        std::fs::create_dir(&mail).expect("a directory");
        std::os::unix::fs::chown(&mail, Some(65534), Some(65534)).expect("only root starts Postfix");
        let smtp = SocketAddr::new(addresses(1)[0].into(), 2525);
        let settings = MAILBOXES.to_owned() + settings;
        let mut command = postfix::configure(directory.path(), smtp, &settings).expect("Postfix is content");
        let master = Program::spawn(&mut command, &directory.path().join("log"));
        let postfix = Self { smtp, directory, master };
        listens(smtp, || postfix.log());
        Some(postfix)
    }

    /// A file of its directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.master.log() + &std::fs::read_to_string(self.file("maillog")).unwrap_or_default()
    }

    /// Does something with its configuration: `postmap`, `reload`.
    pub fn order(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(format!("/usr/sbin/{program}"));
        let output = command.arg("-c").arg(self.file("conf")).args(arguments).output().expect("runs");
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Adds lines to its main.cf, and has them read.
    pub fn change(&self, settings: &str) {
        let file = self.file("conf/main.cf");
        let main = std::fs::read_to_string(&file).expect("readable");
        std::fs::write(file, main + settings).expect("written");
        self.order("postfix", &["reload"]);
    }

    /// All that a user has got.
    pub fn mailbox(&self, user: &str) -> Vec<Vec<u8>> {
        let new = self.file("mail").join(user).join("new");
        let files = std::fs::read_dir(new).into_iter().flatten().flatten();
        files.map(|file| std::fs::read(file.path()).expect("readable")).collect()
    }

    /// Waits until a user has got a message that `fits`.
    pub fn message(&self, user: &str, fits: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        eventually("a message in the mailbox", || {
            let found = self.mailbox(user).into_iter().find(|message| fits(message));
            found.ok_or_else(|| format!("none of {} for {user}\n{}", self.mailbox(user).len(), self.log()))
        })
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // Not SIGKILL, which its other processes would notice late.
        if self.master.is_running() {
            self.master.terminate();
        }
    }
}

/// A second proxy, `q`, that holds the sources of a fleet, too, and speaks what the fleet does.
pub struct Second {
    at: SocketAddr,
    admin: SocketAddr,
    space: Option<Arc<Namespace>>,
}

impl Second {
    /// One on this host.
    pub fn new() -> Self {
        Self::at(addresses(1)[0].into(), None)
    }

    /// One on the host of a fleet's proxy.
    pub fn in_space(space: &Arc<Namespace>) -> Self {
        Self::at(space.there[1], Some(space.clone()))
    }

    fn at(own: IpAddr, space: Option<Arc<Namespace>>) -> Self {
        Self { at: SocketAddr::new(own, 1080), admin: SocketAddr::new(own, 9180), space }
    }

    /// The MTA's side of it.
    pub fn table(&self, dialect: &str) -> String {
        format!("[proxy.q]\naddress = \"{}\"\ndialect = \"{dialect}\"\n", self.at)
    }

    /// Starts it.
    pub fn start(&self, fleet: &Fleet) -> Program {
        let list = fleet.sources.iter().map(|ip| format!("\"{ip}\"")).collect::<Vec<_>>().join(", ");
        let text = format!(
            "[[listener]]\naddress = \"{}\"\nprotocol = \"auto\"\n[sources]\naddresses = [{list}]\n[access]\n\
             allow_special_destinations = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n[admin]\naddress = \"{}\"\n\
             [timeouts]\nconnect = \"2s\"\n",
            self.at, self.admin
        );
        let file = fleet.file("second.toml");
        std::fs::write(&file, text).expect("written");
        let name = binary("egret-proxy");
        let mut command = self.space.as_ref().map_or_else(|| Command::new(&name), |space| space.command(&name));
        let program = Program::spawn(command.args(["serve", "--config"]).arg(&file), &fleet.file("second.log"));
        eventually("the second proxy", || match ask(self.admin, "GET /livez", "", Duration::from_secs(1)) {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?} {}", program.log())),
        });
        program
    }
}

/// HAProxy as a proxy that dials what a PROXY header names, from the source that it names. `None`, which is told, if it
/// is not installed or may not do so.
pub fn haproxy(directory: &Path, via: SocketAddr) -> Option<Program> {
    let program = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"].into_iter().find(|path| Path::new(path).exists());
    let Some(program) = program else {
        eprintln!("skipped: haproxy is not installed");
        return None;
    };
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root may bind haproxy to the addresses of its clients (usesrc)");
        return None;
    }
    let config = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
         listen egress\n bind {via} accept-proxy\n source 0.0.0.0 usesrc clientip\n server mx 0.0.0.0:0\n"
    );
    let file = directory.join("haproxy.cfg");
    std::fs::write(&file, config).expect("written");
    let mut running =
        Program::spawn(Command::new(program).args(["-db", "-f"]).arg(file), &directory.join("haproxy.log"));
    eventually("haproxy", || match TcpStream::connect(via) {
        Ok(_) => Ok(Some(())),
        Err(_) if !running.is_running() => Ok(None),
        Err(error) => Err(format!("{error}: {}", running.log())),
    })
    .or_else(|| {
        let words = running.log();
        assert!(words.contains("usesrc") || words.contains("permitted"), "haproxy does not start: {words}");
        eprintln!("skipped: haproxy may not use its clients' addresses: {words}");
        None
    })?;
    Some(running)
}

/// Waits until somebody listens at `address`.
pub fn listens(address: SocketAddr, log: impl Fn() -> String) {
    eventually("a listener", || match TcpStream::connect(address) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{address}: {error}\n{}", log())),
    });
}

/// The system's Python with a program.
pub fn python(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.arg("-c").arg(script).args(arguments);
    command
}

/// Whether a Python package of Debian's is there; if not, that is told.
pub fn has_python(package: &str) -> bool {
    let there = Path::new("/usr/lib/python3/dist-packages").join(package).exists();
    if !there {
        eprintln!("skipped: python3-{package} is not installed");
    }
    there
}
