//! `[user.NAME]` and the file of users that `egret-proxy user add` writes. Floor 5.

use std::collections::HashMap;
use std::path::PathBuf;

use egret_shared::address::Range;
use egret_shared::config::Section;
use egret_shared::users::{self, Secret, check_hash};

use crate::auth::User;
use crate::source::SourceSet;

/// All users; `None` after a complaint that leaves nothing to go on with.
pub(super) fn build(root: &Section<'_>) -> Option<HashMap<String, User>> {
    let file = root.optional::<PathBuf>(
        "users_file",
        "More users, one `name:hash` a line: the file that `egret-proxy user add` writes.",
    );
    let mut all = HashMap::new();
    for (name, section) in root.named("user") {
        if name.is_empty() || name.len() > 255 {
            section.complain("password", "belongs to a user whose name has not 1 to 255 bytes (RFC 1929)");
        }
        let secret = secret(&section);
        let sources = section.optional::<Vec<Range>>(
            "sources",
            "The sources that this user may use, and that take turns if it names none; all if absent.",
        );
        all.insert(name, User { secret, sources: sources.map(SourceSet::new) });
    }
    if let Some(file) = file {
        match users::read(&file) {
            Ok(listed) => {
                for (name, hash) in listed {
                    let user = all.entry(name).or_insert(User { secret: Secret::None, sources: None });
                    user.secret = Secret::Hashed(hash);
                }
            }
            Err(why) => {
                root.complain("users_file", why);
                return None;
            }
        }
    }
    Some(all)
}

fn secret(section: &Section<'_>) -> Secret {
    let clear = section.optional::<String>("password", "The password of this user, in clear.");
    let file = section.optional::<PathBuf>("password_file", "A file that holds the password, and nothing else.");
    let hash =
        section.optional::<String>("password_hash", "The Argon2 hash of the password, from `egret-proxy user hash`.");
    let given = usize::from(clear.is_some()) + usize::from(file.is_some()) + usize::from(hash.is_some());
    if given > 1 {
        section.complain("password", "is given twice; write one of password, password_file and password_hash");
    }
    if let Some(hash) = hash {
        if let Err(why) = check_hash(&hash) {
            section.complain("password_hash", why);
        }
        return Secret::Hashed(hash);
    }
    let password = match file.map(|file| (std::fs::read_to_string(&file), file)) {
        Some((Ok(text), _)) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
        Some((Err(error), file)) => {
            section.complain("password_file", format!("{} cannot be read: {error}", file.display()));
            None
        }
        None => clear,
    };
    match password {
        Some(password) if password.is_empty() || password.len() > 255 => {
            section.complain("password", "must have 1 to 255 bytes (RFC 1929)");
            Secret::None
        }
        Some(password) => Secret::Clear(password),
        None => Secret::None,
    }
}
