//! The file of users: `name:hash` a line. Floor 1.

use std::path::Path;

use super::{MAX_BYTES, check_hash};

/// Reads a file of `name:hash` lines; empty lines and those that begin with `#` do not count. Of two lines for one
/// name the later counts.
///
/// # Errors
/// The file and the line.
pub fn read(file: &Path) -> Result<Vec<(String, String)>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    let mut users = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |why: &str| Err(format!("{}:{number}: {why}", file.display()));
        let Some((name, hash)) = line.split_once(':') else {
            return wrong("is not `name:hash`; make it with the command `user add`");
        };
        if name.is_empty() || name.len() > MAX_BYTES {
            return wrong("the name has not 1 to 255 bytes");
        }
        if name.contains(char::is_control) {
            return wrong("the name holds a control character");
        }
        if let Err(why) = check_hash(hash) {
            return wrong(&why);
        }
        users.push((name.to_owned(), hash.to_owned()));
    }
    Ok(users)
}
