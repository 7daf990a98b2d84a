//! A power cut, as far as one can be had without a plug: the spool lies on a file system of its own that
//! is told to go down without writing its log or its pages (the GOINGDOWN ioctl), and is mounted anew.
//! Skipped, with a message, where that cannot be done.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use egret_tests::harness::{Fleet, Options, eventually};
use egret_tests::ledger::Ledger;
use egret_tests::peer::sink::Behaviour;
use egret_tests::peer::source::{self, Plan};

use crate::support::{all_delivered, offer, sink};

const ROUNDS: u64 = 20;
/// Messages that are acknowledged in a round before the power goes.
const BEFORE_THE_CUT: u64 = 300;
/// Takes the file system down: EXT4_IOC_SHUTDOWN with "no log flush".
const GO_DOWN: &str = "import fcntl, os, struct, sys\n\
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

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

    /// Whatever is not on the disk now is gone.
    fn cut_power(&self) {
        assert!(does("python3", &["-c", GO_DOWN, self.at()]), "the file system does not go down");
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

fn lines(ledger: &Path) -> u64 {
    std::fs::read_to_string(ledger).map_or(0, |text| text.lines().count() as u64)
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_power_cuts_under_load_lose_nothing() {
    let Some((mut fleet, disk)) = fleet() else { return };
    let offered = fleet.file("offered");
    let ledger = Arc::new(Ledger::create(&offered).expect("a ledger"));
    for round in 0..ROUNDS {
        let before = lines(&offered);
        let prefix = format!("round{round}-");
        let plan = Plan { size: 2_000, concurrency: 20, prefix, ..Plan::new(fleet.smtp, 20_000) };
        let sending = tokio::spawn(source::run(plan, Some(ledger.clone()), Arc::default()));
        eventually("some mail", || {
            ledger.flush().map_err(|error| error.to_string())?;
            let now = lines(&offered) - before;
            if now >= BEFORE_THE_CUT { Ok(()) } else { Err(format!("round {round}: {now}\n{}", fleet.mta.log())) }
        });
        disk.cut_power();
        fleet.mta.crash();
        sending.abort();
        let _ = sending.await;
        ledger.flush().expect("written");
        disk.repair();
        fleet.restart_mta();
    }
    let sink = sink(&fleet, Behaviour::default()).await;
    let found = all_delivered(&fleet, &sink);
    assert!(found.lost == 0 && found.accepted as u64 >= ROUNDS * BEFORE_THE_CUT, "{found:?}");
    eprintln!("{ROUNDS} power cuts: {} acknowledged, {} lost", found.accepted, found.lost);
}

#[test]
fn a_message_is_kept_from_the_moment_of_its_250() {
    let Some((mut fleet, disk)) = fleet() else { return };
    for round in 1..=ROUNDS as usize {
        let answer = offer(fleet.smtp, "s@sender.example", "r@receiver.example");
        assert!(answer.starts_with("250 "), "{answer}");
        disk.cut_power();
        fleet.mta.crash();
        disk.repair();
        fleet.restart_mta();
        let kept = format!("messages={round} ");
        let log = fleet.mta.log();
        let last = log.lines().rev().find(|line| line.contains("spool opened")).expect("it tells");
        assert!(last.contains(&kept), "{last}");
    }
}
