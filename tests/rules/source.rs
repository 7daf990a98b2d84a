//! A source file as the rules see it: its header, its module path, what it uses, its functions.
//! Knows the shape of Rust by `syn`, and no rule.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Folders of the workspace that hold Rust files.
const FOLDERS: [&str; 4] = ["shared", "proxy", "mta", "tests"];
/// Below these lies code of another workspace or none of ours.
const SKIPPED: [&str; 2] = ["target", "fuzz"];

/// The workspace's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// A path that a file's product code names, from the crate's name on: `["mta", "queue", "Engine"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    pub line: usize,
    pub path: Vec<String>,
}

/// A function with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

/// One file.
#[derive(Clone, Debug)]
pub struct File {
    /// Relative to the workspace, with `/`.
    pub path: String,
    pub text: String,
    /// `shared`, `proxy`, `mta` or `tests`.
    pub package: String,
    /// Its place in the crate: `["queue", "engine"]`; empty for `lib.rs` and `main.rs`.
    pub module: Vec<String>,
    /// It holds nothing but its header.
    pub is_empty: bool,
    /// Floors that its first lines name.
    pub floors: Vec<u8>,
    pub uses: Vec<Use>,
    /// Names that a `mod.rs` hands on from its files: `("Engine", "engine")`.
    pub handed_on: Vec<(String, String)>,
    pub functions: Vec<Function>,
    test_lines: Vec<RangeInclusive<usize>>,
}

impl File {
    /// Reads the text of a file that lies at `path` in the workspace.
    pub fn parse(path: &str, text: &str) -> Result<Self> {
        let package = path.split('/').next().unwrap_or("").to_owned();
        let module = module_of(path);
        let parsed = syn::parse_file(text).with_context(|| format!("{path} is not Rust"))?;
        let mut walk = Walk { package: package.clone(), module: module.clone(), ..Walk::default() };
        walk.visit_file(&parsed);
        Ok(Self {
            path: path.to_owned(),
            floors: floors_in(header(text)),
            text: text.to_owned(),
            is_empty: parsed.items.is_empty(),
            package,
            module,
            uses: walk.uses,
            handed_on: walk.handed_on,
            functions: walk.functions,
            test_lines: walk.test_lines,
        })
    }

    /// It belongs to a program or the shared library, and is not a file of tests.
    pub fn is_product(&self) -> bool {
        self.path.split('/').nth(1) == Some("src") && self.package != "tests" && !self.is_tests()
    }

    /// It is a file of tests inside a room: `foo/tests.rs` or what lies in `foo/tests/`.
    pub fn is_tests(&self) -> bool {
        self.module.iter().any(|name| name == "tests" || name == "testing")
    }

    /// Its room; `None` for `lib.rs` and `main.rs`.
    pub fn room(&self) -> Option<&str> {
        self.module.first().map(String::as_str)
    }

    /// It is the `mod.rs` of a room.
    pub fn is_room_head(&self) -> bool {
        self.path.ends_with("/mod.rs") && self.module.len() == 1
    }

    /// Its lines outside tests and comments, numbered from 1.
    pub fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        numbered.filter(|(at, line)| {
            !line.trim_start().starts_with("//") && !self.test_lines.iter().any(|lines| lines.contains(at))
        })
    }
}

/// Reads every file of the workspace.
pub fn read_all() -> Result<Vec<File>> {
    let root = root();
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("").to_owned();
            if path.is_dir() && !SKIPPED.contains(&name.as_str()) {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                let relative = path.strip_prefix(&root)?.to_string_lossy().into_owned();
                files.push(File::parse(&relative, &text)?);
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// The `//!` lines with which a file starts.
fn header(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map_while(|line| line.strip_prefix("//!"))
}

/// The numbers behind the word floor: `Floor 2.`, `Floors 1 and 2`, `floor 1, level 2` gives only 1.
fn floors_in<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let text = lines.collect::<Vec<_>>().join(" ").to_lowercase();
    let words: Vec<&str> =
        text.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric())).collect();
    let number = |at: usize| words.get(at).and_then(|word: &&str| word.parse::<u8>().ok());
    let mut floors = Vec::new();
    for (at, _) in words.iter().enumerate().filter(|(_, word)| matches!(**word, "floor" | "floors")) {
        floors.extend(number(at + 1));
        if words.get(at + 2) == Some(&"and") {
            floors.extend(number(at + 3));
        }
    }
    floors.sort_unstable();
    floors.dedup();
    floors
}

fn module_of(path: &str) -> Vec<String> {
    let inside = path.split('/').skip(2).collect::<Vec<_>>().join("/");
    let inside = inside.strip_suffix(".rs").unwrap_or(&inside);
    let mut names: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if matches!(names.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        names.pop();
    }
    names
}

#[derive(Default)]
struct Walk {
    package: String,
    module: Vec<String>,
    in_tests: bool,
    uses: Vec<Use>,
    handed_on: Vec<(String, String)>,
    functions: Vec<Function>,
    test_lines: Vec<RangeInclusive<usize>>,
}

impl Walk {
    /// Walks on with `inside`, as in tests if the attributes say so.
    fn under(&mut self, attributes: &[syn::Attribute], whole: Span, inside: impl FnOnce(&mut Self)) {
        let before = self.in_tests;
        if attributes.iter().any(is_cfg_test) {
            let first = attributes.first().map_or(whole, Spanned::span).start().line;
            self.test_lines.push(first..=whole.end().line);
            self.in_tests = true;
        }
        inside(self);
        self.in_tests = before;
    }

    /// Keeps a path that leads into one of our crates.
    fn keep(&mut self, names: &[String], line: usize) {
        let Some((first, rest)) = names.split_first() else { return };
        let supers = names.iter().take_while(|name| *name == "super").count();
        let own = |module: &[String], rest: &[String]| [std::slice::from_ref(&self.package), module, rest].concat();
        let path = match first.as_str() {
            "crate" => own(&[], rest),
            "super" => own(&self.module[..self.module.len().saturating_sub(supers)], &names[supers..]),
            name => match name.strip_prefix("egret_") {
                Some(package) => [&[package.to_owned()], rest].concat(),
                None => return,
            },
        };
        if !self.in_tests {
            self.uses.push(Use { line, path });
        }
    }

    fn function(&mut self, name: &syn::Ident, whole: Span) {
        let (first, last) = (whole.start().line, whole.end().line);
        self.functions.push(Function { name: name.to_string(), line: first, lines: last - first + 1 });
    }
}

fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
}

/// All paths of a use tree, in full.
fn flatten(tree: &syn::UseTree, before: &[String], out: &mut Vec<Vec<String>>) {
    let with = |name: String| [before, &[name]].concat();
    match tree {
        syn::UseTree::Path(path) => flatten(&path.tree, &with(path.ident.to_string()), out),
        syn::UseTree::Name(name) if name.ident == "self" => out.push(before.to_vec()),
        syn::UseTree::Name(name) => out.push(with(name.ident.to_string())),
        syn::UseTree::Rename(rename) => out.push(with(rename.ident.to_string())),
        syn::UseTree::Glob(_) => out.push(before.to_vec()),
        syn::UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, out)),
    }
}

impl<'ast> Visit<'ast> for Walk {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.under(&item.attrs, item.span(), |walk| {
            walk.module.push(item.ident.to_string());
            visit::visit_item_mod(walk, item);
            walk.module.pop();
        });
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut paths = Vec::new();
        flatten(&item.tree, &[], &mut paths);
        let public = matches!(item.vis, syn::Visibility::Public(_));
        self.under(&item.attrs, item.span(), |walk| {
            for path in paths {
                walk.keep(&path, item.span().start().line);
                if let (true, [file, .., name]) = (public, &path[..]) {
                    walk.handed_on.push((name.clone(), file.clone()));
                }
            }
        });
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if names.len() > 1 {
            self.keep(&names, path.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.under(&item.attrs, item.span(), |walk| visit::visit_item_impl(walk, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.under(&item.attrs, item.span(), |walk| {
            walk.function(&item.sig.ident, item.sig.span().join(item.block.span()).unwrap_or(item.span()));
            visit::visit_item_fn(walk, item);
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.under(&item.attrs, item.span(), |walk| {
            walk.function(&item.sig.ident, item.sig.span().join(item.block.span()).unwrap_or(item.span()));
            visit::visit_impl_item_fn(walk, item);
        });
    }
}
