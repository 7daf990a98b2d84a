//! The command line. Floor 6. Parses arguments, calls the library, prints; decides nothing.

mod automation;
mod explain;
mod fleet;
mod queue;
mod shaping;
mod spool;
mod tls_report;
mod trace;
mod user;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use egret_shared::clock::Clock;
use egret_shared::{config as shared_config, lifecycle, metrics};

use self::automation::AutomationCommand;
use self::explain::Explain;
use self::fleet::Fleet;
use self::queue::QueueCommand;
use self::shaping::ShapingCommand;
use self::spool::SpoolCommand;
use self::tls_report::Report;
use self::trace::Trace;
use self::user::UserCommand;
use self::why::Question;
use crate::app::{self, Origin, Sockets};
use crate::config::{self, Config, Texts};

/// Exit code of a wrong configuration (sysexits.h: EX_CONFIG).
const BAD_CONFIG: u8 = 78;

/// A lean queueing MTA that sends from many IP addresses.
#[derive(Debug, Parser)]
#[command(name = "egret-mta", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take, queue and deliver mail until SIGTERM.
    Serve {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = "/etc/egret/mta.toml")]
        config: PathBuf,
    },
    /// Look at the configuration without serving.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Ask a running MTA what is queued, and give it orders.
    #[command(subcommand)]
    Queue(Box<QueueCommand>),
    /// Look at what rules over answers have set in force, end it, and try rules on an answer.
    #[command(subcommand)]
    Automation(AutomationCommand),
    /// Say what would become of a message, by the configuration and the DNS.
    Explain(Explain),
    /// Say what shaping files do to a domain, and what is wrong with them.
    #[command(subcommand)]
    Shaping(ShapingCommand),
    /// Say what keeps mail back, in order: who set it, since when, and when it can go.
    Why(Question),
    /// Show the nodes, proxies and sources of the fleet, as a running MTA sees them.
    Fleet(Fleet),
    /// Say what came of TLS towards each domain today or yesterday, by DANE, MTA-STS or neither.
    TlsReport(Report),
    /// Show live sessions of a running MTA, line by line.
    Trace(Trace),
    /// Have a running MTA read its configuration anew, as SIGHUP does.
    Reload(queue::Admin),
    /// Make and change the file of users who may log in on listeners.
    #[command(subcommand)]
    User(UserCommand),
    /// Look into a stopped or copied spool; nothing is changed.
    #[command(subcommand)]
    Spool(SpoolCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Read a file and tell everything that is wrong with it.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = "/etc/egret/mta.toml")]
        config: PathBuf,
    },
    /// Print the reference of all keys, as Markdown.
    Reference,
}

/// Does what the arguments say.
pub fn run(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Command::Serve { config } => {
            with_config(&config, true, |read, texts| serve(read, Origin { file: config.clone(), texts }))
        }
        Command::Config(ConfigCommand::Check { config }) => with_config(&config, false, |read, _| {
            for note in read.notes() {
                println!("{note}");
            }
            println!("{}: good", config.display());
            ExitCode::SUCCESS
        }),
        Command::Queue(command) => told(queue::run(*command)),
        Command::Automation(command) => told(automation::run(command)),
        Command::Explain(asked) => told(explain::run(&asked)),
        Command::Shaping(command) => told(shaping::run(&command)),
        Command::Why(asked) => told(why::run(&asked)),
        Command::Fleet(asked) => told(fleet::run(&asked)),
        Command::TlsReport(asked) => told(tls_report::run(&asked)),
        Command::Trace(asked) => told(trace::run(&asked)),
        Command::Reload(admin) => told(queue::reload(&admin)),
        Command::User(command) => told(user::run(command)),
        Command::Spool(command) => told(spool::run(command)),
        Command::Config(ConfigCommand::Reference) => {
            print!("{}", shared_config::markdown("egret-mta: configuration", &config::keys()));
            ExitCode::SUCCESS
        }
    }
}

fn told(done: anyhow::Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| {
        eprintln!("egret-mta: {error:#}");
        ExitCode::FAILURE
    })
}

fn with_config(file: &std::path::Path, keep: bool, then: impl FnOnce(Config, Texts) -> ExitCode) -> ExitCode {
    let prepared = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let prepared =
        prepared.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(app::prepare(file, keep)));
    let (texts, told) = match prepared {
        Ok(prepared) => prepared,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    if let Some(told) = told {
        eprintln!("{told}");
    }
    match texts.parse() {
        Ok(config) => then(config, texts),
        Err(complaints) => {
            eprintln!("{complaints}");
            ExitCode::from(BAD_CONFIG)
        }
    }
}

fn serve(config: Config, origin: Origin) -> ExitCode {
    told(try_serve(config, origin).map(|()| ExitCode::SUCCESS))
}

fn try_serve(config: Config, origin: Origin) -> anyhow::Result<()> {
    let handle = metrics::install().map_err(anyhow::Error::msg)?;
    lifecycle::init_logging(&config.log.level, config.log.format).map_err(anyhow::Error::msg)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = lifecycle::on_terminate()?;
        let sockets = Sockets::bind(&config).await?;
        app::run(config, origin, sockets, handle, Clock::system(), stop).await?;
        anyhow::Ok(())
    })
}
