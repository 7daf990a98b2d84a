//! The command line. Floor 6. Parses arguments, calls the library, prints; decides nothing.

mod ask;
mod print;
mod user;

use std::io::IsTerminal as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use egret_shared::check::exit_code;
use egret_shared::check::render::findings;
use egret_shared::clock::Clock;
use egret_shared::units::Span;
use egret_shared::{config as shared_config, lifecycle, metrics};

use self::ask::{Admin, SessionsCommand, SourcesCommand};
use self::user::UserCommand;
use crate::app::{self, Sockets};
use crate::check::{self, Options};
use crate::config::{self, Config};
use crate::test_dial::{Dialect, Plan, walk};

/// Exit code of a wrong configuration (sysexits.h: EX_CONFIG).
const BAD_CONFIG: u8 = 78;
/// A mail server that answers everybody, to see whether port 25 is open outward.
const DEFAULT_TARGET: &str = "gmail-smtp-in.l.google.com:25";

/// Dials mail servers from the source address that its client asks for.
#[derive(Debug, Parser)]
#[command(
    name = "egret-proxy",
    version,
    after_help = "Examples:
  egret-proxy config check --config proxy.toml
  egret-proxy serve --config proxy.toml
  egret-proxy check --target mx.example.net:25
  egret-proxy test-dial --source 192.0.2.11 --to mx.example.net:25"
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Where the configuration is.
#[derive(Debug, clap::Args)]
struct File {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/egret/proxy.toml")]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients until SIGTERM. SIGHUP reads the configuration anew.
    Serve(File),
    /// Tell whether this proxy can do its work; exit 0 if all is well, 1 for warnings, 2 for failures.
    #[command(after_help = "Examples:
  egret-proxy check
  egret-proxy check --target mx.example.net:25 --json
  egret-proxy check --no-dial")]
    Check {
        #[command(flatten)]
        file: File,
        /// Where each source dials.
        #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_TARGET)]
        target: String,
        /// Dial nowhere.
        #[arg(long)]
        no_dial: bool,
        /// How long each stage of a dial may take.
        #[arg(long, value_name = "SPAN", default_value = "10s")]
        timeout: Span,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Dial once and show every stage with its time, and the banner; exit 0 if it came.
    #[command(after_help = "Examples:
  egret-proxy test-dial --source 192.0.2.11 --to mx.example.net:25
  egret-proxy test-dial --source 192.0.2.11 --to 198.51.100.7:25 --via 10.0.0.5:1080
  egret-proxy test-dial --source 192.0.2.11 --to 198.51.100.7:25 --via 10.0.0.5:1081 --dialect proxy")]
    TestDial(TestDial),
    /// Show the sources of a running proxy and their states, or take one out of service.
    Sources(SourcesCommand),
    /// Show the sessions of a running proxy.
    Sessions(SessionsCommand),
    /// Have a running proxy read its configuration anew; print what is wrong with it.
    Reload(Admin),
    /// Make the file of users.
    #[command(subcommand)]
    User(UserCommand),
    /// Look at the configuration without serving.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Write manual pages into a folder.
    Man {
        /// The folder.
        directory: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct TestDial {
    /// The source address.
    #[arg(long, value_name = "IP")]
    source: Option<IpAddr>,
    /// The destination.
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// Through this proxy, as its client would.
    #[arg(long, value_name = "IP:PORT")]
    via: Option<SocketAddr>,
    /// How the proxy is asked.
    #[arg(long, value_enum, default_value = "socks5")]
    dialect: Dialect,
    /// The user at the proxy.
    #[arg(long, requires = "password_file")]
    user: Option<String>,
    /// A file with the password.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// How long each stage may take.
    #[arg(long, value_name = "SPAN", default_value = "25s")]
    timeout: Span,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Read a file and tell everything that is wrong with it.
    Check(File),
    /// Print the reference of all keys, as Markdown.
    Reference,
}

/// Does what the arguments say.
pub fn run(arguments: Arguments) -> ExitCode {
    let done = match arguments.command {
        Command::Serve(file) => return with_config(&file.config, |config| told(serve(&file.config, config))),
        Command::Config(ConfigCommand::Check(file)) => {
            return with_config(&file.config, |_| {
                println!("{}: good", file.config.display());
                ExitCode::SUCCESS
            });
        }
        Command::Config(ConfigCommand::Reference) => {
            print!("{}", shared_config::markdown("egret-proxy: configuration", &config::keys()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { file, target, no_dial, timeout, json } => {
            let options = Options { target: (!no_dial).then_some(target), limit: timeout.0 };
            in_runtime(show_check(&file.config, &options, json))
        }
        Command::TestDial(arguments) => in_runtime(test_dial(arguments)),
        Command::Sources(command) => in_runtime(ask::sources(command)),
        Command::Sessions(command) => in_runtime(ask::sessions(command)),
        Command::Reload(admin) => in_runtime(ask::reload(admin)),
        Command::User(command) => user::run(command),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "egret-proxy", &mut script);
            lifecycle::write_out(&script);
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { directory } => manual(&directory),
    };
    told(done)
}

fn told(done: anyhow::Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| {
        eprintln!("egret-proxy: {error:#}");
        ExitCode::FAILURE
    })
}

fn in_runtime(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn with_config(file: &Path, then: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match config::read(file) {
        Ok(config) => then(config),
        Err(complaints) => {
            eprintln!("{complaints}");
            ExitCode::from(BAD_CONFIG)
        }
    }
}

fn serve(file: &Path, config: Config) -> anyhow::Result<ExitCode> {
    let handle = metrics::install().map_err(anyhow::Error::msg)?;
    lifecycle::init_logging(&config.log_level, config.log_format).map_err(anyhow::Error::msg)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let stop = lifecycle::on_terminate()?;
        let sockets = Sockets::bind(&config).await?;
        app::run(file.to_owned(), config, sockets, handle, Clock::system(), stop).await?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn show_check(file: &Path, options: &Options, json: bool) -> anyhow::Result<ExitCode> {
    let found = check::check(file, options).await;
    if json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        print!("{}", findings(&found, std::io::stdout().is_terminal()));
    }
    Ok(ExitCode::from(exit_code(&found)))
}

async fn test_dial(arguments: TestDial) -> anyhow::Result<ExitCode> {
    let TestDial { source, to, via, dialect, user, password_file, timeout, json } = arguments;
    let password = match &password_file {
        Some(file) => user::read_password_file(file)?,
        None => String::new(),
    };
    let credentials = user.map(|user| (user, password));
    let via = via.map(|proxy| (proxy, dialect));
    let outcome = walk(&Plan { source, to, via, credentials, limit: timeout.0 }).await;
    if json {
        println!("{}", serde_json::to_string_pretty(&outcome)?);
    } else {
        print!("{}", print::outcome(&outcome));
    }
    Ok(if outcome.fault.is_none() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// One page for the program and one for each command.
fn manual(directory: &Path) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Arguments::command(), directory)?;
    Ok(ExitCode::SUCCESS)
}
