//! Direction: a file uses only rooms on lower floors, its own room, and crates below its own.
//! The floor of a file stands in its header; the floors of a room stand in the architecture page.

use std::collections::BTreeMap;

use crate::source::{File, Use};

/// The floor on which everything is put together: its rooms may know each other.
const TOP: u8 = 6;

/// Which crates a crate may use.
fn may_use(package: &str) -> &'static [&'static str] {
    match package {
        "proxy" | "mta" => &["shared"],
        "tests" => &["shared", "proxy", "mta"],
        _ => &[],
    }
}

/// The rooms of the architecture page with their floors, by crate and room.
pub type Table = BTreeMap<(String, String), Vec<u8>>;

/// Reads the rows `| room | floors | … |` under the headings `### crate/`.
pub fn read_table(page: &str) -> Table {
    let mut table = Table::new();
    let mut package = None;
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix('#') {
            let heading = heading.trim_matches(|c: char| c == '#' || c == '`' || c.is_whitespace());
            package = heading.strip_suffix('/').map(str::to_owned);
        }
        let (Some(package), Some((room, floors))) = (&package, row(line)) else { continue };
        table.insert((package.clone(), room.to_owned()), floors);
    }
    table
}

fn row(line: &str) -> Option<(&str, Vec<u8>)> {
    let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
    let room = cells.next()?.trim_matches('`');
    let floors = cells.next()?.split(',').map(|floor| floor.trim().parse().ok()).collect::<Option<Vec<u8>>>()?;
    Some((room, floors))
}

/// Headers and table against each other: each complaint is one line.
pub fn disagreements(files: &[File], table: &Table) -> Vec<String> {
    let mut told = Vec::new();
    let mut seen: BTreeMap<(String, String), Vec<u8>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_product() && !file.is_empty) {
        let Some(room) = file.room() else { continue };
        let key = (file.package.clone(), room.to_owned());
        let Some(floors) = table.get(&key) else {
            told.push(format!("{}:1: the room {room} of {}/ is not in the table of rooms", file.path, file.package));
            continue;
        };
        let own = seen.entry(key).or_default();
        if file.floors.is_empty() || (file.floors.len() > 1 && !file.is_room_head()) {
            told.push(format!("{}:1: the header must name one floor, as in `Floor 2.`", file.path));
        }
        for floor in &file.floors {
            own.push(*floor);
            if !floors.contains(floor) {
                told.push(format!("{}:1: floor {floor} is not that of the table, {floors:?}", file.path));
            }
        }
    }
    for ((package, room), own) in &seen {
        let listed = &table[&(package.clone(), room.clone())];
        for floor in listed.iter().filter(|floor| !own.contains(floor)) {
            told.push(format!("{package}/src/{room}: no file has floor {floor}, which the table gives"));
        }
    }
    told
}

/// Every use of a room on the same or a higher floor, and of a crate that lies not below.
pub fn climbs(files: &[File]) -> Vec<String> {
    let house = House::new(files);
    let product = files.iter().filter(|file| file.is_product() && file.room().is_some());
    product.flat_map(|file| file.uses.iter().filter_map(|used| house.judge(file, used))).collect()
}

/// Where each module stands.
struct House<'a> {
    modules: BTreeMap<Vec<String>, &'a File>,
    tops: BTreeMap<(&'a str, &'a str), u8>,
}

impl<'a> House<'a> {
    fn new(files: &'a [File]) -> Self {
        let product = || files.iter().filter(|file| file.is_product());
        let modules =
            product().map(|file| ([std::slice::from_ref(&file.package), &file.module[..]].concat(), file)).collect();
        let mut tops = BTreeMap::new();
        for file in product() {
            let (Some(room), Some(floor)) = (file.room(), file.floors.last()) else { continue };
            let top = tops.entry((file.package.as_str(), room)).or_insert(*floor);
            *top = (*top).max(*floor);
        }
        Self { modules, tops }
    }

    fn judge(&self, file: &File, used: &Use) -> Option<String> {
        let [package, room, ..] = &used.path[..] else { return None };
        let at = format!("{}:{}", file.path, used.line);
        let name = used.path.join("::");
        if *package != file.package {
            let allowed = may_use(&file.package).contains(&package.as_str());
            return (!allowed).then(|| format!("{at}: {}/ may not use {package}/ ({name})", file.package));
        }
        if Some(room.as_str()) == file.room() {
            return None;
        }
        let (own, other) = (self.floor(file)?, self.floor_of(&used.path)?);
        let fine = other < own || (own == TOP && other == TOP);
        (!fine).then(|| format!("{at}: on floor {own}, uses {name} on floor {other}"))
    }

    /// The floor of a file; for the head of a room with several floors, the highest of its files.
    fn floor(&self, file: &File) -> Option<u8> {
        match &file.floors[..] {
            [one] => Some(*one),
            _ => self.tops.get(&(file.package.as_str(), file.room()?)).copied(),
        }
    }

    /// The floor of the file in which a path ends, through what the head of a room hands on.
    fn floor_of(&self, path: &[String]) -> Option<u8> {
        let depth = (2..=path.len()).rev().find(|depth| self.modules.contains_key(&path[..*depth]))?;
        let file = self.modules[&path[..depth]];
        let next = path.get(depth);
        let behind = file.handed_on.iter().find(|(name, _)| Some(name) == next).map(|(_, file)| file);
        let deeper = behind.and_then(|name| self.modules.get(&[&path[..depth], std::slice::from_ref(name)].concat()));
        self.floor(deeper.copied().unwrap_or(file))
    }
}
