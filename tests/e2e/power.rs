//! A power cut, as far as one can be had without a plug: the spool lies on a file system of its own that
//! is told to go down without writing its log or its pages (the GOINGDOWN ioctl), and is mounted anew.
//! Skipped, with a message, where that cannot be done.
//!
//! Only what was acknowledged *before* the cut counts. A machine without power acknowledges nothing, but
//! here the program runs on, and ext4 tells an fdatasync that races with the cut that all is well: the
//! blocks of an append are mapped after their data is written, and an aborted log fails that silently.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use egret_tests::harness::{Fleet, Options, eventually};
use egret_tests::ledger::Ledger;
use egret_tests::peer::sink::Behaviour;
use egret_tests::peer::source::{self, Plan};

use crate::support::{all_delivered, offer, sink};

const ROUNDS: usize = 20;
/// Messages that are acknowledged in a round before the power goes.
const BEFORE_THE_CUT: usize = 300;
/// Takes the file system down when it is told to: EXT4_IOC_SHUTDOWN with "no log flush".
const GO_DOWN: &str = "import fcntl, os, struct, sys\n\
    disk = os.open(sys.argv[1], os.O_RDONLY)\n\
    print('ready', flush=True)\n\
    sys.stdin.readline()\n\
    fcntl.ioctl(disk, 0x8004587D, struct.pack('I', 2))";

fn does(command: &str, arguments: &[&str]) -> bool {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("env").arg(format!("PATH={path}")).arg(command).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

/// A small disk of its own; it is unmounted when this is dropped.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    fn new(image: PathBuf, at: PathBuf) -> Option<Self> {
        let disk = Self { image, at };
        let image = disk.image.to_str()?;
        let made = does("truncate", &["-s", "512M", image]) && does("mkfs.ext4", &["-q", image]);
        if made && does("mount", &["-o", "loop", image, disk.at.to_str()?]) {
            return Some(disk);
        }
        eprintln!("skipped: no file system can be mounted here (needs root, e2fsprogs and loop devices)");
        None
    }

    fn at(&self) -> &str {
        self.at.to_str().expect("a path")
    }

    /// Does `just_before`, and at once takes the disk down: whatever is not on it then is gone.
    fn cut_power<T>(&self, just_before: impl FnOnce() -> T) -> T {
        let mut python = Command::new("python3");
        python.args(["-c", GO_DOWN, self.at()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut switch = python.spawn().expect("python3 runs");
        let (mut tell, hear) = (switch.stdin.take().expect("piped"), switch.stdout.take().expect("piped"));
        BufReader::new(hear).read_line(&mut String::new()).expect("it is ready");
        let known = just_before();
        tell.write_all(b"now\n").expect("it hears");
        assert!(switch.wait().expect("it ends").success(), "the file system does not go down");
        known
    }

    fn repair(&self) {
        eventually("the unmount", || if does("umount", &[self.at()]) { Ok(()) } else { Err("busy".to_owned()) });
        assert!(does("mount", &["-o", "loop", self.image.to_str().expect("a path"), self.at()]));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        does("umount", &["-l", self.at()]);
    }
}

/// A fleet whose spool lies on a disk of its own.
fn fleet() -> Option<(Fleet, Disk)> {
    let mut fleet = Fleet::start(&Options::default());
    assert!(fleet.mta.terminate().success());
    let spool = fleet.file("spool");
    std::fs::remove_dir_all(&spool).ok();
    std::fs::create_dir(&spool).expect("made");
    let disk = Disk::new(fleet.file("image"), spool)?;
    fleet.restart_mta();
    Some((fleet, disk))
}

fn lines(ledger: &Path) -> Vec<String> {
    std::fs::read_to_string(ledger).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Everything that was ever acknowledged, in order.
struct Acknowledged {
    file: PathBuf,
    ledger: Arc<Ledger>,
}

impl Acknowledged {
    fn so_far(&self) -> Vec<String> {
        self.ledger.flush().expect("written");
        lines(&self.file)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_power_cuts_under_load_lose_nothing() {
    let Some((mut fleet, disk)) = fleet() else { return };
    let file = fleet.file("acknowledged");
    let all = Acknowledged { ledger: Arc::new(Ledger::create(&file).expect("a ledger")), file };
    let mut owed = std::fs::File::create(fleet.file("offered")).expect("a ledger");
    for round in 0..ROUNDS {
        let before = all.so_far().len();
        let prefix = format!("round{round}-");
        let plan = Plan { size: 2_000, concurrency: 20, prefix, ..Plan::new(fleet.smtp, 20_000) };
        let sending = tokio::spawn(source::run(plan, Some(all.ledger.clone()), Arc::default()));
        eventually("some mail", || {
            let now = all.so_far().len() - before;
            if now >= BEFORE_THE_CUT { Ok(()) } else { Err(format!("round {round}: {now}\n{}", fleet.mta.log())) }
        });
        let certain = disk.cut_power(|| all.so_far());
        fleet.mta.crash();
        sending.abort();
        let _ = sending.await;
        certain[before..].iter().for_each(|line| writeln!(owed, "{line}").expect("written"));
        disk.repair();
        fleet.restart_mta();
    }
    let sink = sink(&fleet, Behaviour::default()).await;
    let found = all_delivered(&fleet, &sink);
    assert!(found.lost == 0 && found.accepted >= ROUNDS * BEFORE_THE_CUT, "{found:?}");
    eprintln!("{ROUNDS} power cuts: {} acknowledged, {} lost", found.accepted, found.lost);
}

#[test]
fn a_message_is_kept_from_the_moment_of_its_250() {
    let Some((mut fleet, disk)) = fleet() else { return };
    for round in 1..=ROUNDS {
        let answer = offer(fleet.smtp, "s@sender.example", "r@receiver.example");
        assert!(answer.starts_with("250 "), "{answer}");
        disk.cut_power(|| ());
        fleet.mta.crash();
        disk.repair();
        fleet.restart_mta();
        let kept = format!("messages={round} ");
        eventually("the tale of what was kept", || {
            let log = fleet.mta.log();
            let told = log.lines().any(|line| line.contains("spool recovered") && line.contains(&kept));
            if told { Ok(()) } else { Err(format!("round {round}: {answer}: {log}")) }
        });
    }
}
