//! Shaping files in KumoMTA's format: how they are merged, in which order they hold, what is told of them, and how the
//! sites of their domains are followed.

#[path = "../support/dns.rs"]
#[expect(dead_code, reason = "the server can do more than this story wants")]
mod dns;
mod doubts;
mod random;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use dns::Zone;
use egret_mta::config::{ShapingRead, read_shaping};
use egret_mta::dns::resolver::{DnsOptions, Failure, Resolver};
use egret_mta::dns::site::{HostPolicy, MxHost, Protocol, Site};
use egret_mta::shaping::Shaper;
use egret_mta::shaping::lint::lint;
use egret_mta::shaping::patch::Patch;
use egret_mta::shaping::per_site::PerSite;
use egret_mta::shaping::resolve::{Effective, Scope};

/// Files with these names and texts, and the directory that holds them.
fn files(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<PathBuf>) {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |(name, text): &(&str, &str)| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).expect("written");
        file
    };
    let paths = files.iter().map(write).collect();
    (directory, paths)
}

fn read(texts: &[(&str, &str)]) -> ShapingRead {
    let (_directory, paths) = files(texts);
    read_shaping(paths, &[]).unwrap_or_else(|complaints| panic!("{complaints}"))
}

/// What is wrong, without the directory.
fn complaints(texts: &[(&str, &str)], ignored: &[&str]) -> Vec<String> {
    let (directory, paths) = files(texts);
    let ignored: Vec<String> = ignored.iter().map(ToString::to_string).collect();
    let own = format!("{}/", directory.path().display());
    let complaints = read_shaping(paths, &ignored).err().unwrap_or_default();
    complaints.0.iter().map(|one| one.to_string().replace(&own, "")).collect()
}

fn shaper(texts: &[(&str, &str)]) -> Shaper {
    Shaper::new(Arc::new(read(texts).shaping), Arc::default(), PerSite::default())
}

fn one(text: &str) -> Shaper {
    shaper(&[("f.toml", text)])
}

fn site(name: &str, hosts: &[&str]) -> Site {
    let host = |host: &&str| {
        let addresses = vec![[192, 0, 2, 1].into()];
        MxHost { name: (*host).into(), addresses, port: 25, policy: HostPolicy::None }
    };
    Site { name: name.into(), hosts: hosts.iter().map(host).collect(), protocol: Protocol::Smtp }
}

/// The options for mail of `domain` from source `s`, as `key = value` with the line, in the order of the keys.
fn told(shaper: &Shaper, domain: &str, site: &Site) -> Vec<String> {
    let name = shaper.name_for(domain, site).unwrap_or_else(|| site.name.clone());
    words(&shaper.effective("s", &Site { name, ..site.clone() }))
}

fn words(found: &Effective) -> Vec<String> {
    let line = |place: String| place.rsplit_once(':').map(|(_, line)| line.to_owned()).expect("a line");
    let told = found.from.iter().map(|one| {
        let setting = &one.setting;
        format!("{} = {} ({} {})", setting.key, setting.value, line(setting.place.to_string()), one.block)
    });
    told.collect()
}

#[test]
fn each_step_of_the_order_lies_over_those_before_it() {
    let steps = [
        "[\"default\"]\nehlo_domain = \"default.test\"\n",
        "[provider.\"z\"]\nmatch = [{ MXSuffix = \".mx.test\" }]\nehlo_domain = \"z.test\"\n",
        "[provider.\"a\"]\nmatch = [{ DomainSuffix = \".site.test\" }]\nehlo_domain = \"a.test\"\n",
        "[provider.\"z\".sources.\"s\"]\nehlo_domain = \"z-s.test\"\n",
        "[provider.\"a\".sources.\"s\"]\nehlo_domain = \"a-s.test\"\n",
        "[\"rolled.test\"]\nehlo_domain = \"site.test\"\n",
        "[\"d.site.test\"]\nmx_rollup = false\nehlo_domain = \"domain.test\"\n",
        "[\"rolled.test\".sources.\"s\"]\nehlo_domain = \"site-s.test\"\n",
        "[\"d.site.test\".sources.\"s\"]\nehlo_domain = \"domain-s.test\"\n",
    ];
    let expected = [
        "default.test",
        "z.test",
        "a.test",
        "z-s.test",
        "a-s.test",
        "site.test",
        "domain.test",
        "site-s.test",
        "domain-s.test",
    ];
    // A table may come to be by one below it; providers stand in the order of the file, not of their names.
    let mut text = String::new();
    for (step, expected) in steps.iter().zip(expected) {
        text.push_str(step);
        let shaper = one(&text);
        shaper.learn("rolled.test", Ok("x.mx.test"));
        let site = site("x.mx.test", &["x.mx.test"]);
        let name = shaper.name_for("d.site.test", &site).unwrap_or_else(|| site.name.clone());
        let found = shaper.effective("s", &Site { name, ..site.clone() });
        assert_eq!(found.options.smtp.ehlo_domain.as_deref(), Some(expected), "{text}");
        // Another source is not told what is said of this one.
        let of_another = shaper.effective("other", &site).options.smtp.ehlo_domain.clone();
        assert!(!of_another.is_some_and(|name| name.contains("-s.")), "{text}");
    }
}

#[test]
fn limits_with_names_are_merged_one_by_one_and_all_else_is_replaced() {
    let shaper = one(
        "[\"default\"]\nadditional_connection_limits = { a = 1, b = 2 }\nskip_hosts = [\"192.0.2.0/24\"]\n\
                      [\"d.test\"]\nmx_rollup = false\nadditional_connection_limits = { b = \"local:3\", c = 4 }\nskip_hosts = []\n",
    );
    let found = told(&shaper, "d.test", &site("mx.test", &["mx.test"]));
    assert_eq!(
        found,
        [
            "additional_connection_limits.a = 1 (2 [\"default\"])",
            "additional_connection_limits.b = local:3 (6 [\"d.test\"])",
            "additional_connection_limits.c = 4 (6 [\"d.test\"])",
            "skip_hosts = [] (7 [\"d.test\"])",
        ]
    );
}

#[test]
fn a_provider_has_limits_for_each_source_over_all_its_sites() {
    let shaper = one("[provider.\"p\"]\nmatch = [{ MXSuffix = \".mx.test\" }]\nprovider_connection_limit = 7\n\
                      provider_max_message_rate = \"100/s\"\n[provider.\"p\".sources.\"s\"]\n\
                      provider_source_selection_rate = \"10/day,max_burst=1\"\nconnection_limit = 3\n");
    let found = told(&shaper, "d.test", &site("x.mx.test", &["x.mx.test"]));
    assert_eq!(
        found,
        [
            "additional_connection_limits.shaping-provider-p-s-limit = 7 (3 [provider.\"p\"])",
            "additional_message_rate_throttles.shaping-provider-p-s-rate = 100/s (4 [provider.\"p\"])",
            "additional_source_selection_rates.shaping-provider-p-s-selection-rate = 10/d,max_burst=1 (6 [provider.\"p\".sources.\"s\"])",
            "connection_limit = 3 (7 [provider.\"p\".sources.\"s\"])",
            "provider_name = p (1 [provider.\"p\"])",
        ]
    );
    let other = shaper.effective("t", &site("y.mx.test", &["y.mx.test"]));
    assert_eq!(other.provider.as_deref(), Some("p"));
    let limits: Vec<_> = other.options.limits.additional_connection_limits.keys().collect();
    assert_eq!(limits.iter().map(|name| &***name).collect::<Vec<_>>(), ["shaping-provider-p-t-limit"]);
    assert!(other.options.limits.additional_source_selection_rates.is_empty());
    assert!(Arc::ptr_eq(&other, &shaper.effective("t", &site("y.mx.test", &["y.mx.test"]))), "it is remembered");
    assert!(
        Arc::ptr_eq(&other, &shaper.effective("t", &site("z.mx.test", &["z.mx.test"]))),
        "what is the same is shared"
    );
}

#[test]
fn later_files_lie_over_earlier_ones_and_no_limit_of_theirs_is_lost() {
    let first = "[\"default\"]\nconnection_limit = 1\nenable_rset = false\n[provider.\"p\"]\nmatch = [{ MXSuffix = \".a.test\" }]\n\
                 provider_max_message_rate = \"1/s\"\nprovider_connection_limit = 1\nconnection_limit = 2\n";
    let second = "[\"default\"]\nconnection_limit = 5\n[provider.\"p\"]\nmatch = [{ HostName = \"mx.b.test\" }]\n\
                  provider_max_message_rate = \"9/s\"\n";
    let merged = shaper(&[("1.toml", first), ("2.toml", second)]);
    for host in ["x.a.test", "mx.b.test"] {
        let found = merged.effective("s", &site(host, &[host])).options.clone();
        assert_eq!((found.limits.connection_limit.count, found.smtp.enable_rset), (2, false), "{host}");
        let rates: Vec<_> = found.limits.additional_message_rate_throttles.values().map(ToString::to_string).collect();
        assert_eq!(rates, ["9/s"], "KumoMTA loses this one");
        let limits: Vec<_> = found.limits.additional_connection_limits.values().map(|limit| limit.count).collect();
        assert_eq!(limits, [1]);
    }
    let both = merged.effective("s", &site("x", &["x.a.test", "mx.b.test"]));
    assert_eq!(both.provider.as_deref(), Some("p"), "matches of both files count, and each host fits one");
    let replacing = second.replace("[provider.\"p\"]\n", "[provider.\"p\"]\nreplace_base = true\n");
    let replaced = shaper(&[("1.toml", first), ("2.toml", &replacing)]);
    let found = replaced.effective("s", &site("mx.b.test", &["mx.b.test"])).options.clone();
    assert_eq!((found.limits.connection_limit.count, found.smtp.enable_rset), (5, false));
    assert!(found.limits.additional_connection_limits.is_empty());
    assert_eq!(found.limits.additional_message_rate_throttles.len(), 1);
    assert_eq!(replaced.effective("s", &site("x.a.test", &["x.a.test"])).provider, None);
}

#[test]
fn every_host_must_fit_a_provider_and_case_does_not_count() {
    let shaper = one(
        "[provider.\"p\"]\nmatch = [{ MXSuffix = \".MX.test.\" }, { HostName = \"One.test\" }, { DomainSuffix = \".Own.test\" }]\n",
    );
    let provider = |domain: &str, hosts: &[&str]| {
        let site = site("x", hosts);
        let name = shaper.name_for(domain, &site).unwrap_or_else(|| site.name.clone());
        (name.to_string(), shaper.effective("s", &Site { name, ..site.clone() }).provider.is_some())
    };
    for (domain, hosts, expected) in [
        ("d.test", &["a.mx.test"][..], ("x", true)),
        ("d.test", &["a.mx.test", "b.mx.test", "one.test"], ("x", true)),
        ("d.test", &["one.test."], ("x", true)),
        ("a.own.test", &["elsewhere.test"], ("x!~@p", true)),
        ("a.own.test", &["a.mx.test"], ("x", true)),
    ] {
        assert_eq!(provider(domain, hosts), (expected.0.to_owned(), expected.1), "{domain} {hosts:?}");
    }
    // Sites are known by their names: other hosts are another site.
    for hosts in [&["a.mx.test", "b.other.test"][..], &["mx.test"], &["two.test"], &[]] {
        let shaper = one("[provider.\"p\"]\nmatch = [{ MXSuffix = \".mx.test\" }, { HostName = \"one.test\" }]\n");
        assert_eq!(shaper.effective("s", &site("x", hosts)).provider, None, "{hosts:?}");
    }
    let none = one("[provider.\"p\"]\nconnection_limit = 1\n");
    assert_eq!(none.effective("s", &site("x", &["mx.test"])).provider, None);
}

#[test]
fn domains_of_one_site_share_it_unless_something_is_said_of_one_alone() {
    let shaper = one("[\"one.test\"]\nmx_rollup = false\nconnection_limit = 1\n[\"two.test\"]\nconnection_limit = 2\n\
                      [provider.\"a+b!\"]\nmatch = [{ DomainSuffix = \"one.test\" }]\nenable_rset = false\n");
    let mx = site("mx.test", &["mx.test"]);
    assert_eq!(shaper.name_for("two.test", &mx), None);
    assert_eq!(shaper.name_for("three.test", &mx), None);
    let name = shaper.name_for("one.test", &mx).expect("a name of its own");
    assert_eq!(&*name, "mx.test!~@a_b_+one.test");
    let limit = |name: &str| {
        let options = shaper.effective("s", &Site { name: name.into(), ..mx.clone() }).options.clone();
        (options.limits.connection_limit.count, options.smtp.enable_rset)
    };
    assert_eq!((limit("mx.test"), limit(&name)), ((32, true), (1, false)));
    shaper.learn("two.test", Ok("mx.test"));
    assert_eq!(
        (limit("mx.test"), limit(&name)),
        ((2, true), (1, false)),
        "the site's holds for all, the domain's over it"
    );
    for marked in ["mx.test+sts", "mx.test+dane", "mx.test+sts!route", "mx.test!route!~x.test"] {
        assert_eq!(limit(marked), (2, true), "{marked}: a policy or a route makes no other site of the hosts");
    }
}

#[test]
fn what_a_route_says_is_stronger_and_what_delivery_says_weaker() {
    let shaping = read(&[("f.toml", "[\"default\"]\nconnection_limit = 2\nenable_rset = false\n")]).shaping;
    let patch = |text: &str| {
        Arc::new(read(&[("r.toml", &format!("[\"default\"]\n{text}"))]).shaping.defaults[0].patch.as_ref().clone())
    };
    let mut own: PerSite<Arc<Patch>> = PerSite::default();
    own.set_route("relay".into(), patch("connection_limit = 9\n"));
    let shaper = Shaper::new(Arc::new(shaping), patch("connection_limit = 1\nenable_pipelining = false\n"), own);
    let found = |name: &str| {
        let options = shaper.effective("s", &site(name, &["mx.test"])).options.clone();
        (options.limits.connection_limit.count, options.smtp.enable_rset, options.smtp.enable_pipelining)
    };
    assert_eq!((found("mx.test"), found("mx.test!relay")), ((2, false, false), (9, false, false)));
}

#[test]
fn rules_come_with_the_scope_that_they_are_said_of() {
    let rule = |scope: &str, regex: &str| {
        format!("[[{scope}.automation]]\nregex = \"{regex}\"\naction = \"Suspend\"\nduration = \"1h\"\n")
    };
    let text = format!(
        "[\"default\"]\n{}[provider.\"p\"]\nmatch = [{{ HostName = \"mx.test\" }}]\n{}[\"r.test\"]\n{}[\"d.test\"]\nmx_rollup = false\n{}",
        rule("\"default\"", "a"),
        rule("provider.\"p\"", "b"),
        rule("\"r.test\"", "c"),
        rule("\"d.test\"", "d")
    );
    let shaper = one(&text);
    shaper.learn("r.test", Ok("mx.test"));
    let found = shaper.effective("s", &site("mx.test!~d.test", &["mx.test"]));
    let scopes: Vec<&Scope> = found.automation.iter().map(|(scope, _)| scope).collect();
    let expected =
        [Scope::Default, Scope::Provider("p".into()), Scope::Site("r.test".into()), Scope::Domain("d.test".into())];
    assert_eq!(scopes, expected.iter().collect::<Vec<_>>());
    let regexes: String = found.automation.iter().flat_map(|(_, rule)| rule.regex.clone()).collect();
    assert_eq!(regexes, "abcd");
    assert!(found.automation[0].1.at.ends_with("f.toml:2"), "{}", found.automation[0].1.at);
}

#[test]
fn mistakes_are_told_with_file_line_and_the_nearest_key() {
    let text = "[\"default\"]\nconection_limit = 1\nrefresh_strategy = \"Epoch\"\n[\"a.test\"]\nenable_tls = \"Sometimes\"\n\
                smtp_port = 2525\nfrob = 1\n[provider.\"p\"]\nmatch = [{ Suffix = \"x\" }]\nprovider_connection_limit = 0\n\
                [provider.\"p\".sources.\"s\"]\nconnection_limit = \"x\"\n[\"b.test\".sources.\"s\"]\nprovider_source_selection_rate = \"1/s\"\n\
                [\"*.test\"]\nconnection_limit = 1\n";
    let expected = [
        "f.toml:2: default.conection_limit: unknown key; did you mean `connection_limit`?",
        "f.toml:5: a.test.enable_tls: \"Sometimes\" is not a use of TLS: write \"Opportunistic\", \"OpportunisticInsecure\", \"Required\", \"RequiredInsecure\" or \"Disabled\"",
        "f.toml:6: a.test.smtp_port: cannot be said of a path; delivery.smtp_port is for all mail exchangers, and a [[route]] names hosts with ports",
        "f.toml:9: provider.p.match: item 1: has the key \"Suffix\"; { DomainSuffix = \"…\" }, { MXSuffix = \"…\" } or { HostName = \"…\" } belongs here",
        "f.toml:10: provider.p.provider_connection_limit: is 0, with which nothing would ever be sent",
        "f.toml:12: provider.p.sources.s.connection_limit: \"x\" is not a number: write a number from 1 on, like 10 or \"local:10\"",
        "f.toml:14: b.test.sources.s.provider_source_selection_rate: unknown key; did you mean `source_selection_rate`?",
        "f.toml:15: *.test: is a pattern, and blocks are for single domains; a provider with a match like { DomainSuffix = \".example.com\" } is for more",
    ];
    assert_eq!(complaints(&[("f.toml", text)], &["frob"]), expected);
    let found =
        complaints(&[("g.json", "{\n\"default\": {\n\"connection_limit\": \"many\" } }"), ("h.toml", "[x")], &[]);
    assert!(found[0].starts_with("g.json:3: default.connection_limit: \"many\" is not a number"), "{found:?}");
    assert!(found[1].starts_with("h.toml:1: "), "{found:?}");
    let unquoted = complaints(&[("f.toml", "[gmail.com]\nconnection_limit = 1\n")], &[]);
    let words = "gmail: holds a table \"com\": names of domains belong in quotes, as in [\"gmail.com\"]";
    assert!(unquoted.iter().any(|one| one.ends_with(words)), "{unquoted:?}");
    let url = read_shaping([PathBuf::from("https://example.test/shaping.toml")], &[]).expect_err("a complaint");
    assert!(url.to_string().contains("only local files are read"), "{url}");
    let absent = read_shaping([PathBuf::from("/nowhere/shaping.toml")], &[]).expect_err("a complaint");
    assert!(absent.to_string().starts_with("/nowhere/shaping.toml: cannot be read: "), "{absent}");
}

#[test]
fn what_does_nothing_here_is_told_once_and_json_means_the_same() {
    let read = read(&[("f.toml", "[\"default\"]\nrefresh_strategy = \"Epoch\"\ntls_prefer_openssl = true\n")]);
    let notes: Vec<_> = read.notes.iter().map(|note| format!("{} {}: {}", note.line, note.key, note.message)).collect();
    assert_eq!(
        notes,
        [
            "2 default.refresh_strategy: does nothing here: what changes is acted on at once",
            "3 default.tls_prefer_openssl: does nothing here: there is no OpenSSL here",
        ]
    );
    let json = shaper(&[(
        "f.json",
        "{\"default\": {\"connection_limit\": 4},\n \"d.test\": {\"mx_rollup\": false,\n\"max_message_rate\": \"5/s\"}}",
    )]);
    let found = told(&json, "d.test", &site("mx.test", &["mx.test"]));
    assert_eq!(found, ["connection_limit = 4 (1 [\"default\"])", "max_message_rate = 5/s (3 [\"d.test\"])"]);
}

/// In the manner of KumoMTA's published rules: each form of each part of the format.
const AS_PUBLISHED: &str = r#"
["default"]
connection_limit = 10
max_connection_rate = "100/min"
max_deliveries_per_connection = 100
max_message_rate = "100/s"
idle_timeout = "60s"
data_timeout = "30s"
data_dot_timeout = "60s"
enable_tls = "Opportunistic"
consecutive_connection_failures_before_delay = 100

[[default.automation]]
regex = [ '/unable to authenticate/', "Messages.*deferred" ]
action = [ "Suspend", {SetConfig={name="max_message_rate", value="1/minute"}} ]
trigger = {Threshold="3/hr"}
duration = "2 hours"

[provider."bigmail"]
match=[
        {MXSuffix=".l.bigmail.test"},
        {MXSuffix=".bigmail.test"},
]
max_deliveries_per_connection = 50
connection_limit = 5
enable_tls = 'Required'
provider_connection_limit =10

[[provider."bigmail".automation]]
regex = "unusual rate"
trigger = {Threshold="2/hr"}
action = {SetConfig={name="max_message_rate", value="10/minute"}}
duration = "30m"

[[provider."nobody".automation]]
regex = '''\\[X1\\] from \d+'''
action = "SuspendTenant"
trigger = "Immediate"
duration = "1 hours"

["other.test"]
mx_rollup = false
connection_limit = 2
max_message_rate = "10/s"
"#;

#[test]
fn a_file_in_the_manner_of_published_rules_loads_unchanged_and_dead_rules_are_told() {
    let read = read(&[("community.toml", AS_PUBLISHED)]);
    assert!(read.notes.is_empty(), "{:?}", read.notes);
    let doubts: Vec<_> = lint(&read.shaping, &Patch::default(), None).into_iter().map(|one| one.text).collect();
    assert_eq!(
        doubts,
        [
            "provider \"nobody\" has no match in any file, so that it never holds, and its automation (1 rules) can never fire; add match, or use the name of a provider that has it",
        ]
    );
    let shaper = Shaper::new(Arc::new(read.shaping), Arc::default(), PerSite::default());
    let found = shaper.effective("s", &site("mx.l.bigmail.test", &["mx.l.bigmail.test"]));
    let options = &found.options;
    assert_eq!((options.limits.connection_limit.count, options.max_deliveries_per_connection), (5, 50));
    assert_eq!((found.provider.as_deref(), found.automation.len()), (Some("bigmail"), 2));
}

#[test]
fn what_is_likely_not_meant_is_told() {
    let text = "[\"default\"]\nmax_connection_rate = \"1/s\"\nmax_deliveries_per_connection = 5\nmax_message_rate = \"10/s\"\n\
                [\"default\".sources.\"s\"]\nconnection_limit = 1\n\
                [provider.\"a\"]\nmatch = [{ MXSuffix = \"mx.test\" }]\nmax_message_rate = \"4/s\"\n\
                [provider.\"b\"]\nmatch = [{ HostName = \"in.mx.test\" }]\n[provider.\"b\".sources.\"t\"]\nconnection_limit = 1\n";
    let shaping = read(&[("f.toml", text)]).shaping;
    let mut told = String::new();
    for doubt in lint(&shaping, &Patch::default(), Some(&["s".into()])) {
        let place = doubt.place.to_string();
        let _ = writeln!(told, "{} {}", place.rsplit('/').next().expect("a name"), doubt.text);
    }
    let expected = "\
f.toml:1 [\"default\"]: max_message_rate 10/s is never reached: sessions are opened at max_connection_rate, and each carries max_deliveries_per_connection, which is 5/s in all
f.toml:5 [\"default\".sources.\"s\"]: sources of \"default\" are never asked for (nor are they in KumoMTA)
f.toml:7 provider \"a\": the suffix \"mx.test\" has no dot in front, so that notmx.test fits, too; write \".mx.test\", and mx.test itself as another match if it is meant
f.toml:10 provider \"b\" holds for mail of provider \"a\", too: where both say something, \"b\" counts, because it stands later
f.toml:12 [provider.\"b\".sources.\"t\"]: there is no source \"t\" in the configuration
";
    assert_eq!(told, expected);
}

async fn look_up(resolver: &Resolver, shaper: &Shaper, domain: &str) {
    let found = resolver.site(domain).await;
    let found = found.as_ref().map(|found| &*found.site.name).map_err(|failure| match failure {
        Failure::Permanent { response } | Failure::Temporary { response } => response.to_string(),
    });
    shaper.learn(domain, found);
}

fn asking(server: &dns::DnsServer) -> Resolver {
    Resolver::new(DnsOptions { servers: vec![server.address], ..DnsOptions::default() }).expect("servers are given")
}

#[tokio::test]
async fn a_block_holds_for_the_site_of_its_domain_and_a_failed_look_up_keeps_the_last_one() {
    let shaper = one("[\"a.test\"]\nconnection_limit = 3\n");
    let limit = |name: &str| shaper.effective("s", &site(name, &[name])).options.limits.connection_limit.count;
    assert_eq!(limit("mx1.test"), 32);
    let zone = Zone::new().mx("a.test", 1, "mx1.test").host("mx1.test", &["192.0.2.1"]);
    let server = zone.serve().await;
    look_up(&asking(&server), &shaper, "a.test").await;
    assert_eq!((limit("mx1.test"), limit("mx2.test")), (3, 32));
    drop(server);
    for zone in [Zone::new().mx("a.test", 0, "."), Zone::new()] {
        let server = zone.serve().await;
        look_up(&asking(&server), &shaper, "a.test").await;
        let (_, known) = shaper.rolled().remove(0);
        assert!(known.failed.is_some(), "{known:?}");
        assert_eq!(limit("mx1.test"), 3, "it keeps its last good site: {known:?}");
    }
    let zone = Zone::new().mx("a.test", 1, "mx2.test").host("mx2.test", &["192.0.2.1"]);
    let server = zone.serve().await;
    look_up(&asking(&server), &shaper, "a.test").await;
    assert_eq!((limit("mx1.test"), limit("mx2.test"), shaper.rolled()[0].1.failed.clone()), (32, 3, None));
    let again = one("[\"a.test\"]\nconnection_limit = 4\n").following(&shaper);
    let limit = again.effective("s", &site("mx2.test", &["mx2.test"])).options.limits.connection_limit.count;
    assert_eq!(limit, 4, "after a reload the site is still known");
}
