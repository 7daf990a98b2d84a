//! A configuration of several texts: a main one, and others that may hold some of its tables. Floor 2.
//! Always: what two texts define is a complaint that names both places; every complaint names the text and the line that it
//! is about.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::complaint::Complaints;
use super::section::{Context, Section};

/// A text that a configuration is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// How complaints name it: its file, or where it came from.
    pub name: String,
    /// TOML.
    pub text: String,
    /// It is what a person wrote, so that its lines mean something.
    pub has_lines: bool,
}

/// Builds a configuration from a main text and `more`, which may hold only the tables that `may` names.
///
/// # Errors
/// Everything that is wrong, in all texts.
pub fn parse_all<T>(
    main: &Written,
    more: &[Written],
    may: &[&str],
    build: impl FnOnce(&Section<'_>) -> Option<T>,
) -> Result<T, Complaints> {
    let mut context = Context::new(&main.name, &main.text);
    let places: Vec<usize> = more.iter().map(|written| context.add(written)).collect();
    let root = read(&context, main, 0);
    let tables: Vec<_> = more.iter().zip(&places).map(|(written, at)| read(&context, written, *at)).collect();
    let (Some(mut root), Some(tables)) = (root, tables.into_iter().collect::<Option<Vec<_>>>()) else {
        return Err(context.into_complaints());
    };
    for table in tables {
        merge(&context, &mut root, table, may);
    }
    let root = Section::root(&context, &root);
    let built = build(&root);
    drop(root);
    let complaints = context.into_complaints();
    match built {
        Some(config) if complaints.is_empty() => Ok(config),
        _ => Err(complaints),
    }
}

/// The tables of one text; `None` after a complaint.
fn read<'d>(context: &Context, written: &'d Written, at: usize) -> Option<DeTable<'d>> {
    let (table, errors) = DeTable::parse_recoverable(&written.text);
    context.complain_of_syntax(&written.text, at, &errors);
    errors.is_empty().then(|| shifted_table(table.into_inner(), at))
}

/// Adds the tables of a further text.
fn merge<'d>(context: &Context, root: &mut DeTable<'d>, table: DeTable<'d>, may: &[&str]) {
    for (name, value) in table {
        let (at, key) = (name.span().start, name.get_ref().to_string());
        if !may.contains(&&*key) {
            let known = may.join(", ");
            context.complain(at, &key, format!("does not belong here, but in the main file; here may stand: {known}"));
            continue;
        }
        let Some(there) = root.get_mut(&*key) else {
            root.insert(name, value);
            continue;
        };
        let first = there.span().start;
        match (there.get_mut(), value.into_inner()) {
            (DeValue::Table(there), DeValue::Table(more)) => merge_names(context, &key, there, more),
            (DeValue::Array(there), DeValue::Array(more)) if is_of_tables(there) && is_of_tables(&more) => {
                more.into_iter().for_each(|item| there.push(item));
            }
            _ => twice(context, at, &key, first),
        }
    }
}

/// Adds what a table of a further text names: `[source.a1]`, or the items of `[[dkim.signature]]`.
fn merge_names<'d>(context: &Context, path: &str, there: &mut DeTable<'d>, more: DeTable<'d>) {
    for (name, value) in more {
        let Some(old) = there.get_mut(name.get_ref().as_ref()) else {
            there.insert(name, value);
            continue;
        };
        let first = old.span().start;
        let (at, key) = (name.span().start, format!("{path}.{}", name.get_ref()));
        match (old.get_mut(), value.into_inner()) {
            (DeValue::Array(old), DeValue::Array(more)) if is_of_tables(old) && is_of_tables(&more) => {
                more.into_iter().for_each(|item| old.push(item));
            }
            _ => twice(context, at, &key, first),
        }
    }
}

fn twice(context: &Context, at: usize, key: &str, first: usize) {
    context.complain(at, key, format!("is also in {}; keep one of the two", context.place(first)));
}

fn is_of_tables(array: &DeArray<'_>) -> bool {
    array.iter().all(|item| item.get_ref().is_table())
}

/// The same table, its places counted from the begin of the main text.
fn shifted_table(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    let entry = |(name, value)| (shifted(name, by, |name| name), shifted(value, by, |value| shifted_value(value, by)));
    table.into_iter().map(entry).collect()
}

fn shifted_value(value: DeValue<'_>, by: usize) -> DeValue<'_> {
    match value {
        DeValue::Table(table) => DeValue::Table(shifted_table(table, by)),
        DeValue::Array(items) => {
            let mut array = DeArray::new();
            for item in items {
                array.push(shifted(item, by, |value| shifted_value(value, by)));
            }
            DeValue::Array(array)
        }
        other => other,
    }
}

fn shifted<T>(spanned: Spanned<T>, by: usize, inner: impl FnOnce(T) -> T) -> Spanned<T> {
    let span = spanned.span();
    Spanned::new(span.start + by..span.end + by, inner(spanned.into_inner()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, text: &str) -> Written {
        Written { name: name.to_owned(), text: text.to_owned(), has_lines: !name.starts_with("http") }
    }

    #[expect(clippy::unnecessary_wraps, reason = "every build function has this shape")]
    fn build(root: &Section<'_>) -> Option<Vec<(String, u32)>> {
        let own = root.optional::<u32>("own", "x").map(|n| ("own".to_owned(), n));
        let named = root.named("source");
        let named = named.iter().filter_map(|(name, s)| Some((name.clone(), s.required("weight", "Its share.")?)));
        let routes = root.repeated("route");
        let routes = routes.iter().filter_map(|s| Some(("route".to_owned(), s.required("n", "x")?)));
        let dkim = root.section("dkim");
        let signatures = dkim.repeated("signature");
        let signatures = signatures.iter().filter_map(|s| Some(("dkim".to_owned(), s.required("n", "x")?)));
        Some(own.into_iter().chain(named).chain(routes).chain(signatures).collect())
    }

    fn all(main: &str, more: &[Written]) -> Result<Vec<(String, u32)>, Vec<String>> {
        let parsed = parse_all(&written("m.toml", main), more, &["source", "route", "dkim"], build);
        parsed.map_err(|all| all.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn tables_of_several_texts_are_one_configuration() {
        let more = [
            written("a.toml", "[source.b]\nweight = 2\n[[route]]\nn = 2\n[[dkim.signature]]\nn = 4\n"),
            written("b.toml", "source.c.weight = 3\nroute = [{ n = 3 }]\n"),
        ];
        let found = all("own = 1\n[source.a]\nweight = 1\n[[route]]\nn = 1\n[[dkim.signature]]\nn = 1\n", &more);
        let found = found.unwrap_or_else(|all| panic!("{all:?}"));
        let found: Vec<_> = found.iter().map(|(name, n)| format!("{name}={n}")).collect();
        let want = ["own=1", "a=1", "b=2", "c=3", "route=1", "route=2", "route=3", "dkim=1", "dkim=4"];
        assert_eq!(found, want);
    }

    #[test]
    fn complaints_name_their_own_text_and_line() {
        let more = [
            written("a.toml", "\n[source.b]\nweigth = 2\n"),
            written("b.toml", "own = 2\n\n[source.a]\nweight = 3\n"),
            written("https://x/", "\n\n\n[source.d]\nweight = \"x\"\n"),
        ];
        let told = all("own = 1\n[source.a]\nweight = 1\n[sauce]\n", &more).expect_err("mistakes");
        let want = [
            "m.toml:4: sauce: unknown key; did you mean `source`?",
            "a.toml:2: source.b.weight: is missing; a whole number belongs here",
            "a.toml:3: source.b.weigth: unknown key; did you mean `weight`?",
            "b.toml:1: own: does not belong here, but in the main file; here may stand: source, route, dkim",
            "b.toml:3: source.a: is also in m.toml:2; keep one of the two",
            "https://x/: source.d.weight: is a string, but a whole number belongs here",
        ];
        assert_eq!(told, want);
    }

    #[test]
    fn bad_syntax_names_its_text() {
        let told = all("own = 1\n", &[written("a.toml", "\n[source.a\n")]).expect_err("a mistake");
        assert!(told[0].starts_with("a.toml:2: "), "{told:?}");
    }
}
