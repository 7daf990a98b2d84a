//! The rules of the house, on the house itself: direction, headers, sizes, banned words, metrics.
//! Each check is tried on a small sample too, so that none passes because it sees nothing.

mod floors;
mod metrics;
mod source;

use source::{File, Function, read_all, root};

/// The longest file, in lines.
const MAX_FILE_LINES: usize = 500;
/// The longest function, in lines, from its signature to its last brace.
const MAX_FUNCTION_LINES: usize = 100;
/// A function longer than this is long …
const LONG_FUNCTION_LINES: usize = 60;
/// … and at most so many of a hundred may be.
const MAX_LONG_PERCENT: usize = 3;
/// What stands nowhere.
const BANNED: [&str; 3] = ["todo!", "unimplemented!", "#[ignore"];
/// What stands in no product code: `expect` says why it cannot fail.
const BANNED_IN_PRODUCT: [&str; 1] = [".unwrap()"];
/// These files name what they ban.
const RULES: &str = "tests/rules/";

fn house() -> Vec<File> {
    let files = read_all().expect("every file of the workspace is Rust");
    assert!(files.len() > 40, "only {} files were found: the rules look at the wrong place", files.len());
    files
}

fn none(told: &[String]) {
    assert!(told.is_empty(), "\n{}\n", told.join("\n"));
}

fn unheaded(files: &[File]) -> Vec<String> {
    let bare = files.iter().filter(|file| !file.text.starts_with("//!"));
    bare.map(|file| format!("{}:1: does not start by `//!` and what it is", file.path)).collect()
}

fn oversized(files: &[File]) -> Vec<String> {
    let mut told = Vec::new();
    for file in files {
        let lines = file.text.lines().count();
        if lines > MAX_FILE_LINES {
            told.push(format!("{}:{lines}: has more than {MAX_FILE_LINES} lines", file.path));
        }
        for function in file.functions.iter().filter(|function| function.lines > MAX_FUNCTION_LINES) {
            let Function { name, line, lines } = function;
            told.push(format!("{}:{line}: {name} has {lines} lines, more than {MAX_FUNCTION_LINES}", file.path));
        }
    }
    told
}

fn too_many_long(files: &[File]) -> Vec<String> {
    let all: usize = files.iter().map(|file| file.functions.len()).sum();
    let mut long: Vec<(usize, String)> = Vec::new();
    for file in files {
        let over = file.functions.iter().filter(|function| function.lines > LONG_FUNCTION_LINES);
        long.extend(over.map(|f| (f.lines, format!("{}:{}: {} has {} lines", file.path, f.line, f.name, f.lines))));
    }
    if long.len() * 100 <= all * MAX_LONG_PERCENT {
        return Vec::new();
    }
    long.sort_by(|a, b| b.cmp(a));
    long.into_iter().map(|(_, told)| told).collect()
}

fn banned(files: &[File]) -> Vec<String> {
    let mut told = Vec::new();
    for file in files.iter().filter(|file| !file.path.starts_with(RULES)) {
        for (at, line) in file.text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            let found = BANNED.iter().filter(|word| line.contains(**word));
            told.extend(found.map(|word| format!("{}:{}: holds {word}", file.path, at + 1)));
        }
        for (at, line) in file.product_lines().filter(|_| file.is_product()) {
            let found = BANNED_IN_PRODUCT.iter().filter(|word| line.contains(**word));
            told.extend(found.map(|word| format!("{}:{at}: holds {word}", file.path)));
        }
    }
    told
}

fn table() -> floors::Table {
    let page = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the architecture page");
    floors::read_table(&page)
}

#[test]
fn each_file_stands_on_the_floor_that_the_page_gives_its_room() {
    none(&floors::disagreements(&house(), &table()));
}

#[test]
fn each_file_uses_lower_floors_only() {
    none(&floors::climbs(&house()));
}

#[test]
fn each_file_says_what_it_is() {
    none(&unheaded(&house()));
}

#[test]
fn files_and_functions_stay_short() {
    let files = house();
    none(&oversized(&files));
    none(&too_many_long(&files));
}

#[test]
fn nothing_is_left_open() {
    none(&banned(&house()));
}

#[test]
fn each_metric_is_on_a_reference_page_and_each_on_a_page_is_real() {
    let code = metrics::in_code(&house());
    assert!(!code.is_empty(), "no metric was found in the code");
    none(&metrics::disagreements(&code, &metrics::in_pages().expect("the reference pages")));
}

/// Tests that a page names in the last column of its tables and that no file has.
fn unknown_tests(page: &str, files: &[File]) -> Vec<String> {
    let is_test = |name: &str| files.iter().any(|file| file.text.contains(&format!("fn {name}(")));
    let rows = page.lines().enumerate().filter(|(_, line)| line.starts_with('|'));
    let named = rows.flat_map(|(at, line)| {
        let last = line.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or("");
        last.split('`').skip(1).step_by(2).map(move |name| (at + 1, name))
    });
    let unknown = named.filter(|(_, name)| !is_test(name));
    unknown.map(|(at, name)| format!("docs/lessons.md:{at}: there is no test {name}")).collect()
}

#[test]
fn each_lesson_has_its_test() {
    let page = std::fs::read_to_string(root().join("docs/lessons.md")).expect("the page of lessons");
    assert!(page.matches("| `").count() > 20, "the page names hardly any test");
    none(&unknown_tests(&page, &house()));
}

/// The checks on a small house that breaks each rule once.
mod sample {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File::parse(path, text).expect("a Rust file")
    }

    fn low() -> File {
        file("mta/src/low/mod.rs", "//! Low. `a` is floor 1, `b` floor 3.\npub mod a;\npub use b::High;\nmod b;\n")
    }

    fn rooms() -> Vec<File> {
        vec![
            low(),
            file("mta/src/low/a.rs", "//! Floor 1.\npub struct Low;\n"),
            file("mta/src/low/b.rs", "//! Floor 3.\nuse super::a::Low;\npub struct High;\n"),
        ]
    }

    fn climbs_of(text: &str) -> Vec<String> {
        let mut files = rooms();
        files.push(file("mta/src/mid.rs", text));
        floors::climbs(&files)
    }

    #[test]
    fn a_lower_floor_may_be_used() {
        assert_eq!(climbs_of("//! Floor 2.\nuse crate::low::a::Low;\nuse egret_shared::text::Line;\n"), [""; 0]);
        assert_eq!(climbs_of("//! Floor 2.\n#[cfg(test)]\nmod tests {\n    use crate::low::High;\n}\n"), [""; 0]);
    }

    #[test]
    fn a_climb_is_told_with_file_and_line_however_it_is_written() {
        for climb in [
            "use crate::low::High;",
            "use crate::low::{a::Low, b::High};",
            "use super::low::High;",
            "fn f() -> crate::low::High { crate::low::a::Low; }",
            "mod inner { use super::super::low::b; }",
        ] {
            let told = climbs_of(&format!("//! Floor 2.\n{climb}\n"));
            assert_eq!(told.len(), 1, "{climb}: {told:?}");
            assert!(told[0].starts_with("mta/src/mid.rs:2: on floor 2, uses "), "{told:?}");
        }
        assert_eq!(climbs_of("//! Floor 1.\nuse crate::low::a;\n").len(), 1, "the same floor");
    }

    #[test]
    fn crates_have_a_direction_too() {
        assert_eq!(climbs_of("//! Floor 2.\nuse egret_proxy::dial;\n").len(), 1);
        let shared = file("shared/src/x.rs", "//! Floor 2.\nuse egret_mta::message::Message;\n");
        assert_eq!(floors::climbs(&[shared]).len(), 1);
    }

    #[test]
    fn the_table_and_the_headers_must_agree() {
        let table = |text: &str| floors::read_table(&format!("### `mta/`\n| room | floor |\n| --- | --- |\n{text}"));
        let told = |text: &str| floors::disagreements(&rooms(), &table(text)).len();
        assert_eq!(told("| `low` | 1, 3 | x | y |\n"), 0);
        assert_eq!(told("| `low` | 1 | x | y |\n"), 2, "the head and b.rs name floor 3");
        assert_eq!(told("| `low` | 1, 2, 3 | x | y |\n"), 1, "no file has floor 2");
        assert_eq!(told("| `other` | 1 | x | y |\n"), 3, "the room is missing");
        let bare = [file("mta/src/low/a.rs", "//! Nothing about it.\npub struct Low;\n")];
        let told = floors::disagreements(&bare, &table("| `low` | 1 | x | y |\n"));
        assert!(told[0].starts_with("mta/src/low/a.rs:1: the header must name one floor"), "{told:?}");
    }

    #[test]
    fn a_file_without_a_header_is_told() {
        assert_eq!(unheaded(&[file("mta/src/a.rs", "use std::fmt;\n")]).len(), 1);
    }

    #[test]
    fn long_files_and_functions_are_told() {
        let body = |lines: usize| format!("//! x\nfn f() {{\n{}}}\n", "    g();\n".repeat(lines));
        assert_eq!(oversized(&[file("mta/src/a.rs", &body(98))]), [""; 0]);
        assert_eq!(oversized(&[file("mta/src/a.rs", &body(99))]).len(), 1);
        assert_eq!(oversized(&[file("mta/src/a.rs", &"//! x\n".repeat(501))]).len(), 1);
        assert_eq!(too_many_long(&[file("mta/src/a.rs", &body(58))]), [""; 0]);
        assert_eq!(too_many_long(&[file("mta/src/a.rs", &body(59))]).len(), 1);
    }

    #[test]
    fn banned_words_are_told_where_they_count() {
        let told = |text: &str| banned(&[file("mta/src/a.rs", text)]).len();
        assert_eq!(told("//! x\nfn f() { todo!() }\n"), 1);
        assert_eq!(told("//! x\n#[test]\n#[ignore = \"slow\"]\nfn f() {}\n"), 1);
        assert_eq!(told("//! x\nfn f() { g().unwrap(); }\n"), 1);
        assert_eq!(told("//! x\n// never todo!\n#[cfg(test)]\nmod tests {\n    fn f() { g().unwrap(); }\n}\n"), 0);
    }

    #[test]
    fn a_lesson_without_its_test_is_told() {
        let files = [file("mta/src/a.rs", "//! x\nfn it_holds() {}\n")];
        let page = "| wound | cure | test |\n| a | `b` | `it_holds`, `it_fails` |\n";
        assert_eq!(unknown_tests(page, &files), ["docs/lessons.md:2: there is no test it_fails"]);
    }

    #[test]
    fn metrics_must_be_on_both_sides() {
        let code = metrics::in_code(&[file("mta/src/a.rs", "//! x\nfn f() { g(\"egret_mta_a_total\"); }\n")]);
        let page = |text: &str| metrics::names_in(text, '`').map(|n| (n.to_owned(), "page".to_owned())).collect();
        assert_eq!(metrics::disagreements(&code, &page("| `egret_mta_a_total` | counter |")), [""; 0]);
        assert_eq!(metrics::disagreements(&code, &page("| `egret_mta_b_total` | counter |")).len(), 2);
    }
}
