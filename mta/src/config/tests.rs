//! A configuration is whole, or every complaint about it is told with its line.

use egret_shared::config::{markdown, parse};

use super::*;
use crate::message::Priority;
use crate::reception::Auth;
use crate::routing::source::{Dialect, Way};
use crate::shaping::automation::Trigger;
use crate::shaping::options::Tls;

pub(super) const MINIMAL: &str =
    "hostname = \"mail.example.com\"\n[spool]\npath = \"spool\"\n[event_log]\npath = \"events\"\n";

pub(super) fn built(text: &str) -> Config {
    parse("mta.toml", text, build).unwrap_or_else(|complaints| panic!("{complaints}"))
}

pub(super) fn complaints(text: &str) -> Vec<String> {
    match parse("mta.toml", text, build) {
        Ok(_) => Vec::new(),
        Err(all) => all.0.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn five_lines_are_enough_and_mean_direct_delivery() {
    let config = built(MINIMAL);
    assert_eq!(config.pools.len(), 1);
    let (source, weight) = &config.pools[0].members[0];
    assert_eq!((source.ways.clone(), source.address, *weight), (vec![Way::Direct], None, 1));
    assert_eq!(&*source.ehlo_name, "mail.example.com");
    assert_eq!(config.default_pool, config.pools[0].name);
}

#[test]
fn names_are_resolved_from_proxy_to_route() {
    let config = built(&format!(
        "{}{MINIMAL}{}",
        "default_pool = \"p\"\n",
        "[proxy.x]\naddress = \"127.0.0.1:1080\"\n\
         [source.a]\naddress = \"192.0.2.1\"\nproxy = \"x\"\nehlo_name = \"a.example.com\"\n\
         [source.b]\naddress = \"192.0.2.2\"\n\
         [pool.p]\nsources = { a = 1, b = 3 }\n[pool.q]\nsources = { b = 1 }\n\
         [[route]]\ndomains = [\"*.test\"]\nhosts = [\"127.0.0.1:2526\"]\npool = \"q\"\n"
    ));
    let pool = config.pools.iter().find(|pool| &*pool.name == "p").expect("p");
    let Way::Proxy(proxy) = &pool.members[0].0.ways[0] else { panic!("a goes through x") };
    assert_eq!((proxy.dialect, pool.members[1].1), (Dialect::Socks5, 3));
    let route = config.routes.find("a.test").expect("a route");
    assert_eq!((route.hosts[0].port, route.pool.as_deref()), (Some(2526), Some("q")));
}

#[test]
fn each_wrong_reference_is_told_where_it_stands() {
    let found = complaints(&format!(
        "{MINIMAL}{}",
        "[source.a]\naddress = \"192.0.2.1\"\nproxy = \"y\"\n[pool.p]\nsources = { a = 0, c = 1 }\n[[route]]\ndomains = [\"*\"]\n"
    ));
    let expected = [
        "mta.toml:8: source.a.proxy: names the proxy \"y\", which is not in this file (there is none; add [proxy.y])",
        "mta.toml:10: pool.p.sources: gives a the weight 0, with which it is never used; remove it",
        "mta.toml:10: pool.p.sources: names the source \"c\", which is not in this file (known: a)",
        "mta.toml:11: route.hosts: is missing, and pool too: the route would do nothing",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (text, what) in [
        ("[queue]\nretry_interval = \"1h\"\nmax_retry_interval = \"1m\"\n", "shorter than retry_interval"),
        ("[queue]\nmax_ready = 0\n", "is 0"),
        ("[delivery]\nconnection_limit = 0\n", "is 0"),
        ("[routing]\ntenant_header = \"X-A\"\ncampaign_header = \"x-a\"\n", "is the tenant_header"),
        ("[routing]\ntenant_header = \"X-Tenant:\"\n", "without the colon"),
        ("[routing]\ndefault_tenant = \"a b\"\n", "letters, digits"),
        ("[[listener]]\naddress = \"127.0.0.1:25\"\nmax_future_release = \"40years\"\n", "999999999s"),
        ("[memory]\nsoft_limit = \"2GiB\"\nhard_limit = \"1GiB\"\n", "less than soft_limit"),
        ("[memory]\nsoft_limit = \"much\"\n", "or \"none\""),
        ("[delivery]\nenable_tls = \"maybe\"\n", "Opportunistic"),
        ("[delivery]\nconection_limit = 1\n", "did you mean `connection_limit`?"),
        ("[[listener]]\naddress = \"127.0.0.1:25\"\ntls_private_key = \"k\"\n", "tls_certificate belongs to it"),
        ("[[listener]]\naddress = \"127.0.0.1\"\n", "an address with a port"),
        ("[[listener]]\naddress = \"127.0.0.1:25\"\nauth = \"maybe\"\n", "or \"required\""),
        ("[[listener]]\naddress = \"127.0.0.1:25\"\nauth = \"required\"\n", "lets nobody log in"),
        ("[[listener]]\naddress = \"127.0.0.1:25\"\nauth = \"required\"\n", "users_file: is missing"),
        ("[[listener]]\naddress = \"127.0.0.1:25\"\nauth_without_tls_networks = [\"::1\"]\n", "stands without auth"),
        (
            "[proxy.x]\naddress = \"127.0.0.1:1\"\nusername = \"u\"\npassword_file = \"/nowhere\"\n",
            "/nowhere cannot be read",
        ),
        ("[proxy.x]\naddress = \"127.0.0.1:1\"\n[source.a]\nproxy = \"x\"\n", "address: is missing"),
        ("[pool.p]\nsources = {}\n", "names no source"),
        ("[[route]]\ndomains = [\"a.b\", \"a.b\"]\nhosts = [\"127.0.0.1\"]\n", "has a route already"),
    ] {
        let found = complaints(&format!("{MINIMAL}{text}"));
        assert!(found.iter().any(|complaint| complaint.contains(what)), "{text:?}: {found:?}");
    }
}

const RELAY: &str = "[[route]]\nname = \"relay\"\nhosts = [\"127.0.0.1:2526\"]\n";

#[test]
fn each_complaint_about_routes_and_rules_names_its_place() {
    for (text, complaint) in [
        ("[[route]]\nhosts = [\"127.0.0.1\"]\n", "6: route.domains: is missing, and name too: nothing would lead here"),
        (
            "[[route]]\nname = \"a.b\"\nhosts = [\"127.0.0.1\"]\n",
            "7: route.name: \"a.b\" is no name of a route; use up to 64 lower-case letters, digits, - or _",
        ),
        (
            "[[route]]\ndomains = [\"*\"]\nenable_tls = \"Required\"\n",
            "6: route.name: is missing; a route with options of a path needs one where the DNS names the hosts",
        ),
        (
            "[[route]]\nname = \"relay\"\npool = \"direct\"\n",
            "10: route.name: is that of another route, too; choose another",
        ),
        (
            "[[route]]\ndomains = [\"a.test\"]\nhosts = [\"127.0.0.1:2526\"]\nconnection_limit = 3\n",
            "11: route.hosts: are those of [[route]] 1, too, which has other options of the path; hosts in one order are one site, so write the same options in both",
        ),
        (
            "[[route]]\nname = \"b\"\nhosts = [\"127.0.0.1\"]\nconection_limit = 3\n",
            "12: route.conection_limit: unknown key; did you mean `connection_limit`?",
        ),
        (
            "[[rule]]\nset_route = \"relais\"\n",
            "10: rule.set_route: names the route \"relais\", which is not in this file (did you mean \"relay\"? known: relay)",
        ),
        (
            "[[rule]]\nset_routing_domain = \"relay\"\n",
            "10: rule.set_routing_domain: \"relay\" is not a domain with a dot or an address in brackets; the name of a route belongs to set_route",
        ),
        (
            "[[rule]]\nset_route = \"relay\"\nset_routing_domain = \"b.test\"\n",
            "11: rule.set_routing_domain: stands beside set_route; write one of the two",
        ),
        (
            "[[rule]]\nset_priority = \"urgent\"\n",
            "10: rule.set_priority: \"urgent\" is not a priority: write \"high\", \"normal\" or \"low\"",
        ),
        (
            "[[rule]]\nuser = \"bob\"\nstop = true\n",
            "10: rule.user: asks for a user, but nobody can log in: no [[listener]] has auth = \"optional\" or \"required\"",
        ),
    ] {
        // What stands behind line 9 is written behind a route.
        let relay = if complaint.starts_with('1') { RELAY } else { "" };
        let found = complaints(&format!("{MINIMAL}{relay}{text}"));
        assert!(found.contains(&format!("mta.toml:{complaint}")), "{complaint}\nis not in\n{}", found.join("\n"));
    }
}

#[test]
fn one_mistake_is_one_complaint_and_what_depends_on_it_is_not_judged() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("shaping.toml");
    std::fs::write(&file, "[\"a.test\"]\nconection_limit = 3\n").expect("written");
    let shaping = format!("[shaping]\nfiles = [\"{}\"]\n", file.display());
    let floor = "[[floor]]\nlimit = \"google\"\ntenant = \"a\"\nshare = \"10%\"\n";
    let finds = "[pool.direct.discover]\ntag = \"warm\"\n";
    let rule = "[[rule]]\nset_pool = \"warm\"\n[pool.warm]\nsources = { a = 1 }\n[source.a]\n";
    for (first, text, what) in [
        ("", format!("{shaping}{floor}"), "conection_limit"),
        ("default_pool = \"cold\"\n", floor.to_owned(), "default_pool"),
        ("", format!("{floor}[delivery]\nadditional_connection_limits = {{ google = \"x\" }}\n"), "limits.google"),
        ("", format!("{floor}[delivery]\nadditional_conection_limits = {{ google = 3 }}\n"), "unknown key"),
        ("", floor.to_owned(), "floor.limit: names \"google\", and no limit"),
        ("default_pool = \"cold\"\n", rule.to_owned(), "default_pool"),
        ("", format!("{rule}[proxy.x]\naddress = \"127.0.0.1\"\n"), "proxy.x.address"),
        ("", "[[rule]]\nset_priority = \"urgent\"\n".to_owned(), "rule.set_priority"),
        ("", "[[rule]]\nset_prority = \"high\"\n".to_owned(), "unknown key"),
        ("", "[[rule]]\nadd_headers = [\"X\"]\n".to_owned(), "rule.add_headers"),
        ("", "[[rule]]\nsender = \"a@b.test\"\nstop = false\nadd_headers = []\n".to_owned(), "sets nothing"),
        ("", format!("{finds}[redis]\nadress = [\"127.0.0.1:6379\"]\n"), "unknown key"),
        ("", format!("{finds}[redis]\naddress = [\"127.0.0.1\"]\n"), "redis.address"),
        ("", format!("{finds}[redis]\naddress = []\n"), "8: redis: has no address; the pool direct"),
        ("", finds.to_owned(), "redis: is missing; the pool direct"),
    ] {
        let told = complaints(&format!("{first}{MINIMAL}{text}"));
        assert!(told.len() == 1 && told[0].contains(what), "{what} is not all of\n{}", told.join("\n"));
    }
}

#[test]
fn options_of_a_route_stand_over_those_of_all_paths_and_belong_to_its_site() {
    let text = "[delivery]\nconnection_limit = 7\nenable_pipelining = false\n\
                [[route]]\nname = \"relay\"\nhosts = [\"127.0.0.1:2526\"]\nenable_tls = \"Required\"\nconnection_limit = 2\n\
                [[route]]\ndomains = [\"b.test\"]\nhosts = [\"127.0.0.2\"]\n\
                [[route]]\nname = \"secure\"\nenable_tls = \"Required\"\n\
                [[rule]]\nset_route = \"relay\"\nset_priority = \"low\"\n[[rule]]\nset_routing_domain = \"B.Test.\"\n";
    let config = built(&format!("{MINIMAL}{text}"));
    let said = config.routes.options(25);
    let told = |site: &str| {
        let options = said.of(site).over(&config.path);
        (options.limits.connection_limit.count, options.smtp.enable_pipelining, options.tls.enable_tls)
    };
    assert_eq!(told("127.0.0.1:2526"), (2, false, Tls::Required));
    assert_eq!(told("127.0.0.2:25"), (7, false, Tls::OpportunisticInsecure));
    assert_eq!(told("mx.c.test!secure"), (7, false, Tls::Required));
    assert_eq!(told("mx.c.test"), (7, false, Tls::OpportunisticInsecure));
    let (first, second) = (config.rules.get(0).expect("a rule"), config.rules.get(1).expect("a rule"));
    assert_eq!((first.then.routing.as_deref(), first.then.priority), (Some("relay"), Some(Priority::Low)));
    assert_eq!(second.then.routing.as_deref(), Some("b.test"));
}

#[test]
fn shaping_files_are_read_with_the_configuration_and_their_mistakes_are_its_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("shaping.toml");
    let text = format!("{MINIMAL}[shaping]\nfiles = [\"{}\"]\n", file.display());
    assert!(complaints(&text)[0].ends_with("shaping.toml: cannot be read: No such file or directory (os error 2)"));
    std::fs::write(&file, "[\"default\"]\nenable_dane = true\nconnection_limit = 3\n").expect("written");
    let config = built(&text);
    let notes: Vec<_> = config.shaping.notes.iter().map(|note| (note.line, note.key.as_str())).collect();
    assert_eq!(notes, [(2, "enable_dane")], "the resolver does not look for it");
    assert!(built(&format!("{text}[delivery]\nenable_dane = true\n")).shaping.notes.is_empty());
    std::fs::write(&file, "[\"default\"]\nconnection_limit = 0\n").expect("written");
    let found = complaints(&format!("{text}[queue]\nmax_ready = 0\n"));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].contains("queue.max_ready") && found[1].contains("shaping.toml:2: default.connection_limit"),
        "{found:?}"
    );
}

#[test]
fn users_are_read_for_listeners_that_ask_for_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("users");
    egret_shared::users::add(&file, "shop", "secret").expect("written");
    let with = |listener: &str| {
        format!("users_file = \"{}\"\n{MINIMAL}[[listener]]\naddress = \"127.0.0.1:587\"\n{listener}", file.display())
    };
    let required = "auth = \"required\"\nauth_without_tls_networks = [\"127.0.0.0/8\"]\n";
    let config = built(&format!("{}[[rule]]\nuser = [\"shop\", \"-\"]\nstop = true\n", with(required)));
    assert!(config.users.get("shop").is_some() && config.users.get("Shop").is_none());
    let auth = &config.listeners[0].auth;
    assert_eq!(auth.auth, Auth::Required);
    assert!(auth.in_clear.contains([127, 0, 0, 1].into()) && !auth.in_clear.contains([192, 0, 2, 1].into()));
    assert!(complaints(&with("")).iter().any(|told| told.contains("no [[listener]] has auth")));
    std::fs::write(&file, "shop:secret\n").expect("written");
    assert!(complaints(&with(required)).iter().any(|told| told.contains("users:1: no password hash")));
}

#[test]
fn an_empty_file_lacks_three_keys() {
    let found = complaints("");
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn the_reference_page_is_what_the_code_says() {
    let page = markdown("egret-mta: configuration", &keys());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/mta-config.md");
    let stored = std::fs::read_to_string(path).expect("the page is there");
    assert!(stored == page, "run: egret-mta config reference > docs/reference/mta-config.md");
}

#[test]
fn rules_over_answers_are_read_as_kumomta_writes_them() {
    let text = "[[automation]]\nregex = ['\\[TS0[0-9]\\]', \"busy\"]\naction = [\"Suspend\", {SetConfig={name=\"max_message_rate\", value=\"1/minute\"}}, \
         {SetDomainConfig={name=\"max_recipients_per_batch\", value=1}}]\ntrigger = {Threshold=\"5/hr\"}\nduration = \"2 hours\"\nsite = \"*.example.net\"\n\
         [[automation]]\nregex = \"x\"\naction = \"BounceCampaign\"\nduration = \"30 days\"\nmatch_internal = true\n";
    let config = built(&format!("{MINIMAL}{text}"));
    let rules: Vec<_> = config.automation.iter().map(|scoped| &scoped.rule).collect();
    assert_eq!((rules[0].at.as_str(), rules[1].at.as_str()), ("mta.toml:6", "mta.toml:12"));
    let actions: Vec<String> = rules[0].actions.iter().map(ToString::to_string).collect();
    let want = ["Suspend", "SetConfig max_message_rate = \"1/minute\"", "SetDomainConfig max_recipients_per_batch = 1"];
    assert_eq!(actions, want);
    assert_eq!(rules[0].trigger, Trigger::Threshold("5/h".parse().expect("a rate")));
    assert_eq!((rules[0].duration.as_secs(), rules[1].duration.as_secs()), (7_200, 2_592_000));
    assert!(!rules[0].match_internal && rules[1].match_internal);
}

#[test]
fn a_rule_over_answers_that_could_not_work_is_told_where_it_stands() {
    let told = |keys: &str| complaints(&format!("{MINIMAL}[[automation]]\n{keys}\n")).join("\n");
    let good = "regex = \"x\"\naction = \"Suspend\"\nduration = \"1h\"";
    assert_eq!(told(good), "");
    for (from, to, line, what) in [
        ("\"x\"", "\"(?=x)\"", "mta.toml:7: automation.regex: ", "look-around and backreferences are not supported"),
        (
            "\"x\"",
            "[\"x\", \"(\"]",
            "mta.toml:7: automation.regex: ",
            "\"(\" cannot be used: it is no regular expression",
        ),
        ("regex = \"x\"", "", "mta.toml:6: automation.regex: ", "is missing"),
        (
            "\"Suspend\"",
            "\"Suspended\"",
            "mta.toml:8: automation.action: ",
            "\"Suspended\" is not an action; there are Suspend, ",
        ),
        (
            "\"Suspend\"",
            "{SetConfig={name=\"max_rate\", value=1}}",
            "mta.toml:8: automation.action: ",
            "sets \"max_rate\" to 1: ",
        ),
        (
            "\"Suspend\"",
            "{SetConfig={name=\"connection_limit\", value=\"many\"}}",
            "mta.toml:8: automation.action: ",
            "sets \"connection_limit\" to \"many\": ",
        ),
        (
            "\"Suspend\"",
            "{SetDomainConfig={name=\"connection_limit\", value=1}}",
            "mta.toml:8: automation.action: ",
            "write {SetConfig={name=\"connection_limit\", value=1}}",
        ),
        (
            "\"1h\"",
            "\"1h\"\nprovider = \"nosuch\"",
            "mta.toml:10: automation.provider: ",
            "there is none; add [provider",
        ),
        ("\"1h\"", "\"1h\"\nsource = \"nosrc\"", "mta.toml:10: automation.source: ", "known: direct"),
        ("\"1h\"", "\"1h\"\nsource = \"\"", "mta.toml:10: automation.source: ", "names the source \"\""),
        ("\"1h\"", "\"1h\"\ndomain = \"\"", "mta.toml:10: automation.domain: ", "is empty"),
        ("\"1h\"", "\"1h\"\nsite = [\"a.test\", \"\"]", "mta.toml:10: automation.site: ", "is empty"),
        ("\"Suspend\"", "{SetConfig=1}", "mta.toml:8: automation.action: ", "write {SetConfig={name="),
        ("\"1h\"", "\"0s\"", "mta.toml:9: automation.duration: ", "is under a second"),
        ("\"1h\"", "\"1h\"\ntrigger = \"Sometimes\"", "mta.toml:10: automation.trigger: ", "write \"Immediate\" or"),
        (
            "\"1h\"",
            "\"1h\"\ntrigger = {Threshold=\"5\"}",
            "mta.toml:10: automation.trigger: ",
            "Threshold: \"5\" is not a rate",
        ),
    ] {
        let told = told(&good.replace(from, to));
        assert!(told.starts_with(line) && told.contains(what), "{to}: {told}");
    }
}

/// A shaping file with the provider `google` in a directory, and a configuration that names it.
fn with_google() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("shaping.toml");
    std::fs::write(&file, "[provider.google]\nmatch = [{ MXSuffix = \".google.test\" }]\nprovider_name = \"g\"\n")
        .expect("written");
    let text = format!("[shaping]\nfiles = [\"{}\"]\n", file.display());
    (directory, text)
}

#[test]
fn rules_over_answers_name_what_there_is_and_domains_as_the_dns_has_them() {
    let (_directory, shaping) = with_google();
    let rule = "[[automation]]\nregex = \"x\"\naction = \"Suspend\"\nduration = \"1h\"\nprovider = [\"google\", \"g\"]\n\
         source = [\"OUT-1\", \"later-*\"]\ndomain = \"b\u{fc}cher.test\"\n";
    let text = format!("{MINIMAL}{shaping}[source.out-1]\n{rule}");
    let config = built(&text);
    let place = crate::shaping::automation::Place {
        domain: "xn--bcher-kva.test",
        providers: &["google".into()],
        source: "out-1",
        ..Default::default()
    };
    assert!(config.automation.iter().all(|scoped| scoped.fits(&place)));
    let told = complaints(&text.replace("\"g\"]", "\"gogle\"]"));
    assert!(told.len() == 1 && told[0].contains("names the provider \"gogle\""), "{told:?}");
    assert!(told[0].contains("known: g, google"), "{told:?}");
    let found = format!("[redis]\naddress = [\"127.0.0.1:6379\"]\n[pool.p.discover]\ntag = \"t\"\n{rule}");
    let by_address = |address: &str| found.replace("later-*", address);
    assert!(complaints(&format!("{MINIMAL}{shaping}[source.out-1]\n{}", by_address("192.0.2.1"))).is_empty());
    assert!(complaints(&text.replace("later-*", "192.0.2.1"))[0].contains("names the source \"192.0.2.1\""));
}

#[test]
fn a_plan_of_warm_up_names_providers_or_sites_in_small_letters() {
    let (_directory, shaping) = with_google();
    let source = "[source.a]\n[source.a.warmup]\nstart = \"2026-12-01\"\nmessages = [5]\n";
    let text = |by: &str| format!("{MINIMAL}{shaping}{source}by = {{ {by} }}\n");
    let config = built(&text("google = [1], \"MX1.A.Test.\" = [2]"));
    let plan = &config.pools[0].members[0].0.warmup[0].plan;
    assert_eq!(plan.by.keys().collect::<Vec<_>>(), ["google", "mx1.a.test"]);
    for (by, what) in [
        ("nosuch = [1]", "names the provider \"nosuch\", which is in no shaping file (known: g, google)"),
        ("\"\" = [1]", "names the provider \"\""),
        ("\"a.test\" = [1], \"A.TEST\" = [2]", "names \"a.test\" twice"),
    ] {
        let told = complaints(&text(by));
        assert!(told.len() == 1 && told[0].contains("source.a.warmup.by: "), "{told:?}");
        assert!(told[0].starts_with("mta.toml:") && told[0].contains(what), "{told:?}");
    }
}

#[test]
fn a_plan_of_warm_up_is_dated_by_its_section_or_for_what_is_found_by_each_address() {
    let redis = "[redis]\naddress = [\"127.0.0.1:6379\"]\n";
    let of_source =
        "[source.a]\n[source.a.warmup]\nstart = \"2026-12-01\"\nmessages = [5, 10]\nby = { google = [1] }\n";
    let of_found = "[pool.p.discover]\ntag = \"new\"\n[pool.p.discover.warmup]\nmessages = [5, 10]\n";
    let root = "default_pool = \"own\"\n";
    let (_directory, shaping) = with_google();
    let text = format!("{root}{MINIMAL}{shaping}{redis}{of_source}[pool.own]\nsources = {{ a = 1 }}\n{of_found}");
    let config = built(&text);
    let source = &config.pools.iter().find(|pool| &*pool.name == "own").expect("the pool").members[0].0;
    assert_eq!((&*source.warmup[0].of, source.warmup[0].start, source.warmup[0].plan.days()), ("a", 20_788, 2));
    let found = config.discovery.selectors[0].warmup.as_ref().expect("a plan");
    assert_eq!((found.start, &found.plan.messages[..]), (None, &[5, 10][..]));
    let dated = text.replace("discover.warmup]\n", "discover.warmup]\nstart = \"2026-12-02\"\n");
    assert_eq!(built(&dated).discovery.selectors[0].warmup.as_ref().and_then(|w| w.start), Some(20_789));
    for (from, to, what) in [
        ("start = \"2026-12-01\"\n", "", "source.a.warmup.start: is missing"),
        (
            "discover.warmup]\nmessages = [5, 10]",
            "discover.warmup]\nby = { google = [1] }",
            "pool.p.discover.warmup.messages: is missing",
        ),
        ("discover.warmup]\n", "discover.warmup]\nstart = \"tomorrow\"\n", "pool.p.discover.warmup.start: "),
        ("discover.warmup]\n", "discover.warmup]\nbegin = \"2026-12-02\"\n", "pool.p.discover.warmup.begin"),
    ] {
        let told = complaints(&text.replace(from, to));
        assert!(told.len() == 1 && told[0].contains(what), "{told:?}");
    }
}
