//! A host of its own, in a network namespace: addresses that go and come, and a firewall. Floor 1.
//! Always: the namespace goes with its handle, and whatever was done in it.

use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A namespace with a cable to this host; it is removed when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    /// Its name, for `ip netns exec`.
    pub name: String,
    /// This host's end of the cable.
    pub here: IpAddr,
    /// The other end, and a second address beside it.
    pub there: [IpAddr; 2],
    /// More addresses at the other end.
    pub sources: Vec<IpAddr>,
    /// The same in IPv6: this host's end, and addresses at the other.
    pub here6: IpAddr,
    /// See `here6`.
    pub sources6: Vec<IpAddr>,
    cable: String,
}

/// What a firewall does with what it blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Nothing: there is no answer.
    Drop,
    /// It answers with a reset.
    Reset,
}

/// Runs ip(8).
fn ip(arguments: &str) -> bool {
    let done = Command::new("ip").args(arguments.split(' ')).output();
    done.is_ok_and(|output| output.status.success())
}

impl Namespace {
    /// Makes one, with so many sources in each family; `None`, with a message, where that cannot be done.
    pub fn new(sources: u8) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let third = ((process * 8 + serial % 8) % 250) as u8;
        let net = |last| IpAddr::from([10, 213, third, last]);
        let net6 = |last| IpAddr::from(Ipv6Addr::new(0xfd13, 0xe9e7, 0, third.into(), 0, 0, 0, last));
        let new = Self {
            name: format!("egret{}-{serial}", process % 100_000),
            here: net(1),
            there: [net(2), net(3)],
            sources: (0..sources).map(|n| net(11 + n)).collect(),
            here6: net6(1),
            sources6: (0..sources).map(|n| net6(11 + u16::from(n))).collect(),
            cable: format!("eg{serial}x{}", process % 10_000),
        };
        if !ip(&format!("netns add {}", new.name)) {
            eprintln!("skipped: no network namespace can be made here (needs root and iproute2)");
            return None;
        }
        if !new.connect() {
            eprintln!("skipped: no cable into the network namespace can be made here");
            return None;
        }
        Some(new)
    }

    fn connect(&self) -> bool {
        let Self { name, here, here6, cable, .. } = self;
        let mut own = self.there.iter().chain(&self.sources).chain(&self.sources6);
        ip(&format!("link add {cable} type veth peer name inside netns {name}"))
            && ip(&format!("address add {here}/24 dev {cable}"))
            && ip(&format!("address add {here6}/64 dev {cable} nodad"))
            && ip(&format!("link set {cable} up"))
            && ip(&format!("-n {name} link set lo up"))
            && own.all(|address| self.add(*address))
            && ip(&format!("-n {name} link set inside up"))
    }

    fn add(&self, address: IpAddr) -> bool {
        let (length, flag) = if address.is_ipv4() { (24, "") } else { (64, " nodad") };
        ip(&format!("-n {} address add {address}/{length} dev inside{flag}", self.name))
    }

    /// Takes an address away.
    pub fn take(&self, address: IpAddr) {
        self.inside(&format!("address delete {address}/{} dev inside", if address.is_ipv4() { 24 } else { 64 }));
    }

    /// Gives an address.
    pub fn give(&self, address: IpAddr) {
        assert!(self.add(address), "{address}");
    }

    /// Runs ip(8) inside.
    pub fn inside(&self, arguments: &str) {
        assert!(ip(&format!("-n {} {arguments}", self.name)), "ip {arguments}");
    }

    /// A command that runs a program inside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// An address of this host, at its end of the cable, that no other test uses.
    pub fn more_here(&self, nth: u8) -> IpAddr {
        let IpAddr::V4(here) = self.here else { return self.here };
        let [a, b, c, _] = here.octets();
        let more = IpAddr::from([a, b, c, 101 + nth]);
        assert!(ip(&format!("address add {more}/24 dev {}", self.cable)), "{more}");
        more
    }

    /// Blocks what fits a match of nft(8), like `ip daddr 10.0.0.1 tcp dport 25`, on its way out or in; what was
    /// blocked before is free again.
    pub fn block(&self, way: &str, what: &str, how: Block) {
        let how = if how == Block::Drop { "drop" } else { "reject with tcp reset" };
        self.free();
        self.nft(&format!(
            "table inet egret {{\n chain block {{\n type filter hook {way} priority 0\n {what} {how}\n }}\n}}\n"
        ));
    }

    /// Nothing is blocked any more.
    pub fn free(&self) {
        self.nft("table inet egret\ndelete table inet egret\n");
    }

    fn nft(&self, rules: &str) {
        let mut nft = self.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft runs");
        nft.stdin.take().expect("piped").write_all(rules.as_bytes()).expect("written");
        assert!(nft.wait().is_ok_and(|status| status.success()), "nft does not take {rules}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&format!("netns delete {}", self.name));
    }
}
