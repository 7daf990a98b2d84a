//! One table of a configuration file, from which a program asks its keys.
//! Floor 2. Always: every key that the file holds is either asked for or complained about when the
//! section is dropped.

use std::cell::RefCell;
use std::fmt::Debug;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::complaint::{Complaint, Complaints, nearest};
use super::layers::Written;
use super::reference::KeyDoc;
use super::value::Value;

/// What all sections of one configuration share.
pub(super) struct Context {
    texts: Vec<Text>,
    /// With the number of the text.
    complaints: RefCell<Vec<(usize, Complaint)>>,
    pub(super) docs: Option<RefCell<Vec<KeyDoc>>>,
}

/// One text of a configuration. Places are counted over all of them.
struct Text {
    name: String,
    /// Where it begins and ends.
    begin: usize,
    end: usize,
    /// Where its lines begin; none if they mean nothing to a person.
    line_starts: Vec<usize>,
}

impl Text {
    fn new(name: &str, text: &str, begin: usize) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| begin + i + 1);
        let line_starts = std::iter::once(begin).chain(ends).collect();
        Self { name: name.to_owned(), begin, end: begin + text.len(), line_starts }
    }
}

impl Context {
    pub(super) fn new(file: &str, text: &str) -> Self {
        Self { texts: vec![Text::new(file, text, 0)], complaints: RefCell::default(), docs: None }
    }

    /// A further text; returns where its places begin.
    pub(super) fn add(&mut self, written: &Written) -> usize {
        let begin = self.texts.last().map_or(0, |text| text.end + 1);
        let mut text = Text::new(&written.name, &written.text, begin);
        if !written.has_lines {
            text.line_starts.clear();
        }
        self.texts.push(text);
        begin
    }

    /// The number of the text at a place, its name, and the line.
    fn find(&self, at: usize) -> (usize, &str, usize) {
        let number = self.texts.partition_point(|text| text.begin <= at).saturating_sub(1);
        let (name, starts) = self.texts.get(number).map_or(("", &[][..]), |text| (&text.name, &text.line_starts));
        (number, name, starts.partition_point(|start| *start <= at))
    }

    /// A place in words, like `mta.toml:12`.
    pub(super) fn place(&self, at: usize) -> String {
        match self.find(at) {
            (_, name, 0) => name.to_owned(),
            (_, name, line) => format!("{name}:{line}"),
        }
    }

    pub(super) fn complain(&self, at: usize, key: &str, message: String) {
        let (number, file, line) = self.find(at);
        let complaint = Complaint { file: file.to_owned(), line, key: key.to_owned(), message };
        self.complaints.borrow_mut().push((number, complaint));
    }

    pub(super) fn into_complaints(self) -> Complaints {
        let mut all = self.complaints.into_inner();
        all.sort_by_key(|(number, complaint)| (*number, complaint.line));
        Complaints(all.into_iter().map(|(_, complaint)| complaint).collect())
    }
}

/// A table of the file, present or not.
pub struct Section<'d> {
    context: &'d Context,
    path: String,
    at: usize,
    table: Option<&'d DeTable<'d>>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'d> Section<'d> {
    pub(super) fn root(context: &'d Context, table: &'d DeTable<'d>) -> Self {
        Self::new(context, String::new(), 0, Some(table))
    }

    fn new(context: &'d Context, path: String, at: usize, table: Option<&'d DeTable<'d>>) -> Self {
        Self { context, path, at, table, asked: RefCell::default() }
    }

    /// The section's path in the file, like `source.a1`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where it stands: file and line.
    pub fn place(&self) -> String {
        self.context.place(self.at)
    }

    /// True if the file holds this table.
    pub fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// A key that must be there. `None` after a complaint. `doc` is its sentence in the reference.
    pub fn required<T: Value>(&self, key: &'static str, doc: &'static str) -> Option<T> {
        self.document::<T>(key, None, true, doc);
        if self.find(key).is_none() && !self.describing() {
            self.context.complain(self.at, &self.full(key), format!("is missing; {} belongs here", T::KIND));
        }
        self.value(key)
    }

    /// A key that may be absent.
    pub fn optional<T: Value>(&self, key: &'static str, doc: &'static str) -> Option<T> {
        self.document::<T>(key, None, false, doc);
        self.value(key)
    }

    /// A key with a default, written as it would stand in the file (`"30s"` with its quotes, `25`).
    ///
    /// # Panics
    /// If `default` is not a value of its type: a defect of the program that every test run finds.
    pub fn with_default<T: Value>(&self, key: &'static str, default: &'static str, doc: &'static str) -> T {
        self.document::<T>(key, Some(default), false, doc);
        self.value(key).unwrap_or_else(|| {
            let value = DeValue::parse(default).expect("defaults are TOML");
            T::read(value.get_ref()).unwrap_or_else(|e| panic!("default of {}: {e}", self.full(key)))
        })
    }

    /// A key that replaces what stood in `slot` before. `default` is what stands there if nothing replaces it,
    /// as in [`Section::with_default`]; the reference tells it.
    ///
    /// # Panics
    /// While the reference is made, if `slot` does not hold `default`: a defect of the program that every test run
    /// finds.
    pub fn replace<T: Value + PartialEq + Debug>(
        &self,
        key: &'static str,
        default: &'static str,
        doc: &'static str,
        slot: &mut T,
    ) {
        self.replace_with::<T, T>(key, default, doc, slot);
    }

    /// As [`Section::replace`], where the file's type is not that of the slot.
    ///
    /// # Panics
    /// As [`Section::replace`].
    pub fn replace_with<T: Value + Into<S>, S: PartialEq + Debug>(
        &self,
        key: &'static str,
        default: &'static str,
        doc: &'static str,
        slot: &mut S,
    ) {
        if self.describing() {
            let told: S = self.with_default::<T>(key, default, doc).into();
            assert_eq!(told, *slot, "default of {}", self.full(key));
        } else if let Some(value) = self.value::<T>(key) {
            *slot = value.into();
        }
    }

    /// A sub-table, present or not.
    #[must_use]
    pub fn section(&self, key: &'static str) -> Section<'d> {
        match self.find(key) {
            Some(entry) => self.sub(self.full(key), entry),
            None => Self::new(self.context, self.full(key), self.at, None),
        }
    }

    /// Named sub-tables, as in `[source.a1]`, `[source.a2]`, with their names.
    pub fn named(&self, key: &'static str) -> Vec<(String, Section<'d>)> {
        if self.describing() {
            let _ = self.find(key);
            return vec![("NAME".to_owned(), Self::new(self.context, format!("{}.NAME", self.full(key)), 0, None))];
        }
        let Some(entry) = self.find(key) else { return Vec::new() };
        let Some(table) = self.table_of(&self.full(key), entry) else { return Vec::new() };
        let sub = |(name, value): (&'d Spanned<DeString<'d>>, &'d Spanned<DeValue<'d>>)| {
            let path = format!("{}.{}", self.full(key), name.get_ref());
            (name.get_ref().to_string(), self.sub(path, value))
        };
        table.iter().map(sub).collect()
    }

    /// A list of tables, as in `[[listener]]`.
    pub fn repeated(&self, key: &'static str) -> Vec<Section<'d>> {
        if self.describing() {
            let _ = self.find(key);
            return vec![Self::new(self.context, format!("[{}]", self.full(key)), 0, None)];
        }
        let Some(entry) = self.find(key) else { return Vec::new() };
        let Some(array) = entry.get_ref().as_array() else {
            let message = format!("is not a list of tables; write [[{}]]", self.full(key));
            self.context.complain(entry.span().start, &self.full(key), message);
            return Vec::new();
        };
        array.iter().map(|value| self.sub(self.full(key), value)).collect()
    }

    /// A map of names to values, as in `sources = { a1 = 1, a2 = 3 }`, in the order of the names.
    pub fn map<T: Value>(&self, key: &'static str, doc: &'static str) -> Vec<(String, T)> {
        self.document::<T>(key, None, false, doc);
        let Some(entry) = self.find(key) else { return Vec::new() };
        let path = self.full(key);
        let Some(table) = self.table_of(&path, entry) else { return Vec::new() };
        let read = |(name, value): (&Spanned<DeString<'d>>, &Spanned<DeValue<'d>>)| match T::read(value.get_ref()) {
            Ok(read) => Some((name.get_ref().to_string(), read)),
            Err(message) => {
                self.context.complain(value.span().start, &format!("{path}.{}", name.get_ref()), message);
                None
            }
        };
        table.iter().filter_map(read).collect()
    }

    /// Documents keys that other code declares, under one name in the reference.
    pub fn also(&self, keys: &'static str, kind: &'static str, doc: &'static str) {
        if let Some(docs) = &self.context.docs {
            let section = self.path.clone();
            docs.borrow_mut().push(KeyDoc { section, key: keys, kind, default: None, required: false, doc });
        }
    }

    /// Whether it holds keys other than these.
    pub fn holds_more_than(&self, keys: &[&str]) -> bool {
        self.table.is_some_and(|table| table.keys().any(|name| !keys.contains(&name.get_ref().as_ref())))
    }

    /// Complains about `key` of this section, where it stands in the file.
    pub fn complain(&self, key: &'static str, message: impl Into<String>) {
        let at = self.find(key).map_or(self.at, |e| e.span().start);
        if !self.describing() {
            self.context.complain(at, &self.full(key), message.into());
        }
    }

    fn sub(&self, path: String, entry: &'d Spanned<DeValue<'d>>) -> Section<'d> {
        let table = self.table_of(&path, entry);
        Self::new(self.context, path, entry.span().start, table)
    }

    fn table_of(&self, path: &str, entry: &'d Spanned<DeValue<'d>>) -> Option<&'d DeTable<'d>> {
        let table = entry.get_ref().as_table();
        if table.is_none() {
            self.context.complain(entry.span().start, path, format!("is not a table; write [{path}]"));
        }
        table
    }

    fn value<T: Value>(&self, key: &'static str) -> Option<T> {
        let entry = self.find(key)?;
        match T::read(entry.get_ref()) {
            Ok(value) => Some(value),
            Err(message) => {
                self.context.complain(entry.span().start, &self.full(key), message);
                None
            }
        }
    }

    fn find(&self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        self.table?.get(key)
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn describing(&self) -> bool {
        self.context.docs.is_some()
    }

    fn document<T: Value>(&self, key: &'static str, default: Option<&'static str>, required: bool, doc: &'static str) {
        if let Some(docs) = &self.context.docs {
            let section = self.path.clone();
            docs.borrow_mut().push(KeyDoc { section, key, kind: T::KIND, default, required, doc });
        }
    }
}

impl Drop for Section<'_> {
    /// Every key must have been asked for by now; the others are complaints.
    fn drop(&mut self) {
        let asked = self.asked.borrow();
        for (name, _) in
            self.table.iter().flat_map(|t| t.iter()).filter(|(n, _)| !asked.contains(&n.get_ref().as_ref()))
        {
            let hint = nearest(name.get_ref(), &asked).map_or_else(
                || format!("known keys here: {}", asked.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            self.context.complain(name.span().start, &self.full(name.get_ref()), format!("unknown key; {hint}"));
        }
    }
}
