//! Pools, sources, proxies, routes and signatures that come from elsewhere than the main configuration file: a directory
//! of files, and a document behind a URL. `json` is pure, floor 1; `kept`, `files` and `fetch` touch files and sockets,
//! floor 3. Knows no key: what a text means is the configuration's.
//! Always: the document that is kept on disk is the last one that was good.

pub mod fetch;
pub mod files;
pub mod json;
pub mod kept;

use std::path::PathBuf;
use std::time::Duration;

/// Where configuration comes from besides the main file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// A directory of files.
    pub directory: Option<PathBuf>,
    /// A document behind a URL.
    pub served: Option<Served>,
}

/// A document behind a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Where it is.
    pub url: String,
    /// How often it is fetched.
    pub refresh: Duration,
    /// The file of the token that is shown to its server.
    pub token_file: Option<PathBuf>,
    /// Who may sign its server's certificate (PEM); the Mozilla root program if absent.
    pub authorities: Option<PathBuf>,
}
