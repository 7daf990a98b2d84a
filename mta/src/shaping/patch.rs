//! What is said of paths at one place: settings, each with where it stands. Plain data. Floor 1.
//! Always: a setting that is here was read and checked; to apply it cannot fail.

use std::fmt;
use std::sync::Arc;

use super::options::PathOptions;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    file: Arc<str>,
    line: usize,
}

impl Place {
    /// A line of a file.
    pub fn new(file: &str, line: usize) -> Self {
        Self { file: file.into(), line }
    }

    /// The file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line, from 1.
    pub fn line(&self) -> usize {
        self.line
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What a setting does to the options of a path.
type Apply = dyn Fn(&mut PathOptions) + Send + Sync;

/// One option that is said.
#[derive(Clone)]
pub struct Setting {
    /// The key; of a limit with a name of its own `key.name`.
    pub key: Arc<str>,
    /// The value, as it stands in the file.
    pub value: Arc<str>,
    /// Where it stands.
    pub place: Place,
    apply: Arc<Apply>,
}

impl Setting {
    /// `value` is what people are told.
    pub fn new(key: &str, value: &str, place: Place, apply: impl Fn(&mut PathOptions) + Send + Sync + 'static) -> Self {
        Self { key: key.into(), value: value.into(), place, apply: Arc::new(apply) }
    }

    /// The value for people: secrets are not told.
    pub fn told(&self) -> &str {
        if self.key.contains("password") { "(hidden)" } else { &self.value }
    }

    /// Does to `options` what is said.
    pub fn apply(&self, options: &mut PathOptions) {
        (self.apply)(options);
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.key, self.told(), self.place)
    }
}

/// Two settings are the same if they say the same, wherever that stands.
impl PartialEq for Setting {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.value == other.value
    }
}

impl Eq for Setting {}

/// Settings, the later ones over the earlier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch(Vec<Setting>);

impl Patch {
    /// Says one more.
    pub fn push(&mut self, setting: Setting) {
        self.0.push(setting);
    }

    /// What is said.
    pub fn settings(&self) -> &[Setting] {
        &self.0
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key is said.
    pub fn says(&self, key: &str) -> bool {
        self.0.iter().any(|setting| &*setting.key == key)
    }

    /// Does to `options` what is said.
    pub fn apply(&self, options: &mut PathOptions) {
        for setting in &self.0 {
            setting.apply(options);
        }
    }

    /// What `base` becomes.
    #[must_use]
    pub fn over(&self, base: &PathOptions) -> PathOptions {
        let mut options = base.clone();
        self.apply(&mut options);
        options
    }
}
