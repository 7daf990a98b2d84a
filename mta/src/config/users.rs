//! `users_file`: who may log in on listeners. Floor 5.

use std::path::PathBuf;
use std::sync::Arc;

use egret_shared::config::Section;
use egret_shared::users::{self, Passwords, Secret};

use super::listener::ListenerConfig;
use crate::reception::Auth;

/// The file of users.
pub(super) fn file(root: &Section<'_>) -> Option<PathBuf> {
    root.optional(
        "users_file",
        "Who may log in on listeners with auth, one `name:hash` a line: the file that `egret-mta user add` writes. A reload reads it anew.",
    )
}

/// All users; `None` after a complaint.
pub(super) fn build(
    root: &Section<'_>,
    file: Option<PathBuf>,
    listeners: &[Option<ListenerConfig>],
) -> Option<Arc<Passwords>> {
    let asks = listeners.iter().flatten().find(|listener| listener.auth.auth != Auth::None);
    match (&file, asks) {
        (Some(_), None) if !listeners.is_empty() => {
            root.complain("users_file", "names users, but no [[listener]] has auth = \"optional\" or \"required\"");
        }
        (None, Some(listener)) => {
            let text = format!(
                "is missing, but the listener {} has auth; make the file with `egret-mta user add`",
                listener.address
            );
            root.complain("users_file", text);
        }
        _ => {}
    }
    let listed = match file.map(|file| users::read(&file)) {
        None => Vec::new(),
        Some(Ok(listed)) => listed,
        Some(Err(why)) => {
            root.complain("users_file", why);
            return None;
        }
    };
    let secrets = listed.into_iter().map(|(name, hash)| (name, Secret::Hashed(hash))).collect();
    Passwords::new(secrets).map(Arc::new).map_err(|why| root.complain("users_file", why)).ok()
}
