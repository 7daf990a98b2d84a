//! One table of a configuration file, from which a program asks its keys.
//! Floor 2. Always: every key that the file holds is either asked for or complained about when the
//! section is dropped.

use std::cell::{Cell, RefCell};
use std::fmt::Debug;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::complaint::{Complaint, Complaints, nearest};
use super::layers::Written;
use super::reference::KeyDoc;
use super::twice::{self, Twice};
use super::value::Value;

/// What is noted of a key that may be unknown.
pub const IGNORED: &str = "is not known here, and ignored because ignore_unknown names it";

/// What all sections of one configuration share.
pub(super) struct Context {
    texts: Vec<Text>,
    /// With the number of the text.
    complaints: RefCell<Vec<(usize, Complaint)>>,
    /// What is worth a word, and wrong only in part.
    notes: RefCell<Vec<Complaint>>,
    /// Keys that may be unknown.
    ignored: Vec<String>,
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
        let texts = vec![Text::new(file, text, 0)];
        let (complaints, notes, ignored) = (RefCell::default(), RefCell::default(), Vec::new());
        Self { texts, complaints, notes, ignored, docs: None }
    }

    /// These keys may be unknown: that is noted, and no complaint.
    pub(super) fn ignoring(self, keys: &[String]) -> Self {
        Self { ignored: keys.to_vec(), ..self }
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

    fn remark(&self, at: usize, key: &str, message: String) -> (usize, Complaint) {
        let (number, file, line) = self.find(at);
        (number, Complaint { file: file.to_owned(), line, key: key.to_owned(), message })
    }

    pub(super) fn complain(&self, at: usize, key: &str, message: String) {
        self.complaints.borrow_mut().push(self.remark(at, key, message));
    }

    /// Complains about what is no TOML, in a text that begins at `begin`.
    pub(super) fn complain_of_syntax(&self, text: &str, begin: usize, errors: &[toml::de::Error]) {
        for (number, error) in errors.iter().enumerate() {
            let span = error.span().unwrap_or_default();
            let at = begin + span.start;
            if error.message() != twice::MESSAGE || number >= twice::MOST_SOUGHT {
                self.complain(at, "", error.message().to_owned());
                continue;
            }
            let Twice { key, first } = twice::find(text, span);
            let place = first.map(|first| format!("stands in {} already", self.place(begin + first)));
            let place = place.unwrap_or_else(|| "stands twice in one table".to_owned());
            self.complain(at, &key, format!("{place}; keep one of the two"));
        }
    }

    /// Complaints and notes, each in the order of the lines; complaints of other files stand behind.
    pub(super) fn finish(self) -> (Complaints, Vec<Complaint>) {
        let mut notes = self.notes.take();
        notes.sort_by_key(|note| note.line);
        (self.into_complaints(), notes)
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
    /// Whatever else it holds was asked for, too.
    asked_all: Cell<bool>,
    /// So was each table that it holds.
    asked_tables: Cell<bool>,
}

impl<'d> Section<'d> {
    pub(super) fn root(context: &'d Context, table: &'d DeTable<'d>) -> Self {
        Self::new(context, String::new(), 0, Some(table))
    }

    fn new(context: &'d Context, path: String, at: usize, table: Option<&'d DeTable<'d>>) -> Self {
        let (asked_all, asked_tables) = (Cell::new(false), Cell::new(false));
        Self { context, path, at, table, asked: RefCell::default(), asked_all, asked_tables }
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

    /// The sub-tables under names that are free, beside the keys that were asked for, in the order of the file.
    pub fn tables(&self) -> Vec<(String, Section<'d>)> {
        self.asked_all.set(true);
        self.free(|_| true)
    }

    /// The same; what is no table is complained about in the words of `wrong`, which is told the name, and whether it is a
    /// list of tables.
    pub fn tables_or(&self, wrong: impl Fn(&str, bool) -> String) -> Vec<(String, Section<'d>)> {
        for (name, value) in self.table.iter().flat_map(|table| table.iter()) {
            let key = name.get_ref();
            if value.get_ref().is_table() || self.asked.borrow().contains(&key.as_ref()) || self.ignores(key) {
                continue;
            }
            let is_list =
                value.get_ref().as_array().is_some_and(|list| list.iter().any(|one| one.get_ref().is_table()));
            self.context.complain(name.span().start, &self.full(key), wrong(key, is_list));
        }
        self.asked_all.set(true);
        self.free(DeValue::is_table)
    }

    /// Notes a key that may be unknown; whether it is one.
    fn ignores(&self, key: &str) -> bool {
        let is_ignored = self.context.ignored.iter().any(|ignored| ignored == key);
        if is_ignored {
            self.note(key, IGNORED);
        }
        is_ignored
    }

    /// The same, but what is no table is a key that nobody knows.
    pub fn only_tables(&self) -> Vec<(String, Section<'d>)> {
        self.asked_tables.set(true);
        self.free(DeValue::is_table)
    }

    /// Whatever else it holds has been complained about already.
    pub fn leave_rest(&self) {
        self.asked_all.set(true);
    }

    fn free(&self, counts: impl Fn(&DeValue<'d>) -> bool) -> Vec<(String, Section<'d>)> {
        let asked = self.asked.borrow();
        let mut found: Vec<_> = self.table.iter().flat_map(|table| table.iter()).collect();
        found.retain(|(name, value)| !asked.contains(&name.get_ref().as_ref()) && counts(value.get_ref()));
        let sub = |(name, value): (&'d Spanned<DeString<'d>>, &'d Spanned<DeValue<'d>>)| {
            (name.get_ref().to_string(), self.sub(self.full(name.get_ref()), value))
        };
        let mut found: Vec<_> = found.into_iter().map(sub).collect();
        found.sort_by_key(|(_, section)| section.at);
        found
    }

    /// Whether it holds this key.
    pub fn holds(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// The first key beside these that is a table.
    pub fn first_table(&self, beside: &[&str]) -> Option<&'d str> {
        let is_other = |(name, value): &(&'d Spanned<DeString<'d>>, &'d Spanned<DeValue<'d>>)| {
            value.get_ref().is_table() && !beside.contains(&name.get_ref().as_ref())
        };
        self.table?.iter().find(is_other).map(|(name, _)| name.get_ref().as_ref())
    }

    /// The file.
    pub fn file(&self) -> &'d str {
        self.context.find(self.at).1
    }

    /// The line of a key, or of the section where it does not hold that.
    pub fn line_of(&self, key: &str) -> usize {
        let at = self.table.and_then(|table| table.get(key)).map_or(self.at, |entry| entry.span().start);
        self.context.find(at).2
    }

    /// The line on which it begins.
    pub fn line(&self) -> usize {
        self.context.find(self.at).2
    }

    /// What stands at a key, in words: a list or a table as its parts.
    pub fn words_of(&self, key: &str) -> Option<String> {
        Some(super::change::words(self.table?.get(key)?.get_ref()))
    }

    /// Notes something about `key`, which is no complaint.
    pub fn note(&self, key: &str, message: impl Into<String>) {
        let at = self.table.and_then(|table| table.get(key)).map_or(self.at, |entry| entry.span().start);
        let key = if key.is_empty() { self.path.clone() } else { self.full(key) };
        let (_, note) = self.context.remark(at, &key, message.into());
        self.context.notes.borrow_mut().push(note);
    }

    /// Asks for a key without a wish to know its value; whether it is there.
    pub fn skip(&self, key: &'static str) -> bool {
        self.find(key).is_some()
    }

    /// Whether something was complained about whose key begins so. Keys that nobody asked for are complained about when
    /// their section is dropped.
    pub fn is_refused(&self, begin: &str) -> bool {
        self.context.complaints.borrow().iter().any(|(_, complaint)| complaint.key.starts_with(begin))
    }

    /// Takes over complaints about another file.
    pub fn complain_of_another(&self, complaints: Complaints) {
        let behind = complaints.0.into_iter().map(|complaint| (usize::MAX, complaint));
        self.context.complaints.borrow_mut().extend(behind);
    }

    /// Complains about the section itself.
    pub fn complain_here(&self, message: impl Into<String>) {
        self.context.complain(self.at, &self.path, message.into());
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
        if self.asked_all.get() {
            return;
        }
        let asked = self.asked.borrow();
        for (name, value) in
            self.table.iter().flat_map(|t| t.iter()).filter(|(n, _)| !asked.contains(&n.get_ref().as_ref()))
        {
            if self.asked_tables.get() && value.get_ref().is_table() {
                continue;
            }
            if self.ignores(name.get_ref()) {
                continue;
            }
            let hint = nearest(name.get_ref(), &asked).map_or_else(
                || format!("known keys here: {}", asked.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            self.context.complain(name.span().start, &self.full(name.get_ref()), format!("unknown key; {hint}"));
        }
    }
}
