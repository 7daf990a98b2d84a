//! Makes and changes the file of users. Floor 1. Writes it whole and renames it into place, so that a program that
//! reloads meanwhile never sees half of it.

use std::fs::{self, OpenOptions};
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::Path;

use super::{MAX_BYTES, hash, read};

/// Who may read a file of users: its owner, and its group, which is the program's.
const MODE: u32 = 0o640;

/// Adds a user, or gives it a new password.
///
/// # Errors
/// What is wrong with the name, or with the file.
pub fn add(file: &Path, name: &str, password: &str) -> Result<(), String> {
    let odd = |c: char| c == ':' || c == '#' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > MAX_BYTES || name.contains(odd) {
        return Err(format!("{name:?} cannot be a user: 1 to 255 bytes without space, `:` and `#`"));
    }
    let mut users = if file.exists() { read(file)? } else { Vec::new() };
    let hash = hash(password)?;
    users.retain(|(known, _)| known != name);
    users.push((name.to_owned(), hash));
    write(file, &users)
}

/// Removes a user.
///
/// # Errors
/// There is no such user, or what is wrong with the file.
pub fn remove(file: &Path, name: &str) -> Result<(), String> {
    let mut users = read(file)?;
    let before = users.len();
    users.retain(|(known, _)| known != name);
    if users.len() == before {
        return Err(format!("{}: no user {name:?}; `user list` shows those that there are", file.display()));
    }
    write(file, &users)
}

fn write(file: &Path, users: &[(String, String)]) -> Result<(), String> {
    let new = file.with_extension("new");
    let failed = |error| format!("{} cannot be written: {error}", new.display());
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&new).map_err(failed)?;
    for (name, hash) in users {
        writeln!(out, "{name}:{hash}").map_err(failed)?;
    }
    out.sync_all().map_err(failed)?;
    // The program must stay able to read it.
    if let Ok(old) = fs::metadata(file) {
        let _ = fs::set_permissions(&new, old.permissions());
        let _ = chown(&new, Some(old.uid()), Some(old.gid()));
    }
    fs::rename(&new, file).map_err(|error| format!("{} cannot be replaced: {error}", file.display()))
}

/// Asks for a password at a terminal, twice; reads a line from anything else.
///
/// # Errors
/// Why it is none.
pub fn ask_password() -> Result<String, String> {
    let password = if std::io::stdin().is_terminal() {
        let ask = |prompt| rpassword::prompt_password(prompt).map_err(|error| format!("the terminal: {error}"));
        let first = ask("Password: ")?;
        if ask("Again: ")? != first {
            return Err("the two differ".to_owned());
        }
        first
    } else {
        let mut text = String::new();
        let read = std::io::stdin().take(4096).read_to_string(&mut text);
        read.map_err(|error| format!("standard input: {error}"))?;
        text.trim_end_matches(['\r', '\n']).to_owned()
    };
    if password.is_empty() || password.len() > MAX_BYTES || password.contains('\0') {
        return Err("a password must have 1 to 255 bytes, and no NUL among them".to_owned());
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_come_get_another_password_and_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("users");
        let names = || read(&file).expect("readable").into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        add(&file, "a", "one").expect("added");
        add(&file, "b@c.test", "two").expect("added");
        let before = read(&file).expect("readable");
        add(&file, "a", "three").expect("changed");
        let after = read(&file).expect("readable");
        assert_eq!(names(), ["b@c.test", "a"]);
        assert!(before[0].1 != after[1].1 && before[1] == after[0]);
        for bad in ["", "a:b", "#a", "a b", "a\nb", &"a".repeat(256)] {
            assert!(add(&file, bad, "x").is_err(), "{bad:?}");
        }
        assert!(remove(&file, "c").is_err_and(|why| why.contains("no user \"c\"")));
        remove(&file, "a").expect("removed");
        assert_eq!(names(), ["b@c.test"]);
    }

    #[test]
    fn a_bad_line_is_told_with_its_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("users");
        let good = hash("x").expect("hashed");
        for (line, why) in [
            ("a", "is not `name:hash`"),
            (":x", "1 to 255 bytes"),
            ("a:secret", "no password hash"),
            ("a\u{1}:x", "control character"),
        ] {
            fs::write(&file, format!("# users\n\nz:{good}\n{line}\n")).expect("written");
            let told = read(&file).expect_err("bad");
            assert!(told.contains("users:4: ") && told.contains(why), "{told}");
        }
        assert!(read(&dir.path().join("none")).is_err_and(|why| why.contains("cannot be read")));
    }
}
