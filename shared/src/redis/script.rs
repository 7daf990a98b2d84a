//! Scripts that run inside Redis, and calls of them.
//! Floor 3.

use redis::{Cmd, cmd};

/// A script. Make it once.
#[derive(Clone)]
pub struct Script {
    text: String,
    hash: String,
}

impl Script {
    /// A script in Lua.
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned(), hash: redis::Script::new(text).get_hash().to_owned() }
    }
}

/// A call of a script. All its keys must lie in one slot of a cluster.
pub struct Call<'s> {
    /// The script.
    pub script: &'s Script,
    /// Its keys.
    pub keys: Vec<String>,
    /// Its other arguments.
    pub args: Vec<String>,
}

impl Call<'_> {
    /// For a server that knows the script.
    pub fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &self.script.hash)
    }

    // Not SCRIPT LOAD: in a cluster that goes to every server, and fails if one of them is away.
    /// For any server; it knows the script from then on.
    pub fn by_text(&self) -> Cmd {
        self.command("EVAL", &self.script.text)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = cmd(name);
        command.arg(script).arg(self.keys.len()).arg(&self.keys).arg(&self.args);
        command
    }
}
