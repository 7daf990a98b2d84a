//! Who may use what: users, rules, limits, drains, and where a source is chosen without BIND.

use std::net::{IpAddr, SocketAddr};

use super::support::{Client, House, refuses, request};

/// Logs in and connects; the reply, or what the login got.
fn log_in(client: &mut Client, user: &str, password: &str, to: SocketAddr) -> Result<Vec<u8>, [u8; 2]> {
    client.say(&[5, 2, 0, 2]);
    assert_eq!(client.hear(), [5, 2]);
    let length = |text: &str| u8::try_from(text.len()).expect("short");
    let login = [&[1, length(user)], user.as_bytes(), &[length(password)], password.as_bytes()].concat();
    client.say(&login);
    match client.hear() {
        [1, 0] => {
            client.say(&request(1, to));
            Ok(client.reply())
        }
        refused => Err(refused),
    }
}

#[test]
fn users_log_in_and_their_names_choose_sources() {
    let hash = egret_shared::users::hash("secret").expect("hashed");
    let users =
        format!("[user.any]\npassword_hash = \"{hash}\"\n[user.own]\npassword = \"clear\"\nsources = [SOURCE]\n");
    let house = House::start("auth = \"password\"", &users.replace("SOURCE", "\"::1\""));
    let own = format!("\"{}\", \"{}\"", house.sources[4], house.sources[5]);
    assert_eq!(house.reload("sources = [\"::1\"]", &format!("sources = [{own}]")).0, 200);
    let remote = house.remote(2525);
    let to = remote.address();

    let named = format!("any+{}", house.sources[3]);
    assert_eq!(log_in(&mut house.client(), &named, "secret", to).expect("logged in")[1], 0);
    assert_eq!(remote.accept().1, house.sources[3]);
    let mut seen: Vec<IpAddr> = (0..4)
        .map(|_| {
            assert_eq!(log_in(&mut house.client(), "own", "clear", to).expect("logged in")[1], 0);
            remote.accept().1
        })
        .collect();
    seen.sort();
    assert_eq!(seen, [house.sources[4], house.sources[4], house.sources[5], house.sources[5]]);
    let foreign = format!("own+{}", house.sources[0]);
    refuses(&log_in(&mut house.client(), &foreign, "clear", to).expect("logged in"), 2, 11);

    for (user, password) in [("any", "Secret"), ("own", "secret"), ("nobody", "secret"), ("any", "")] {
        assert_eq!(log_in(&mut house.client(), user, password, to), Err([1, 1]), "{user} {password}");
    }
    house.measures("egret_proxy_auth_failures_total 4");
    let mut client = house.client();
    client.say(&[5, 1, 0]);
    assert_eq!(client.rest().0, [5, 0xFF]);
}

#[test]
fn rules_say_who_may_go_where_from_where() {
    let rules = "[access]\nallow_special_destinations = [\"127.0.0.0/8\"]\n[[access.rule]]\nsources = [\"SOURCE\"]\ndestination_networks = [\"REMOTE\"]\n";
    let house = House::start("", rules.replace("SOURCE", "127.0.0.1").replace("REMOTE", "127.0.0.1").as_str());
    let (status, answer) = house.reload(
        "sources = [\"127.0.0.1\"]\ndestination_networks = [\"127.0.0.1\"]",
        &format!("sources = [\"{}\"]\ndestination_networks = [\"{}\"]", house.sources[1], house.remote),
    );
    assert_eq!(status, 200, "{answer}");
    let remote = house.remote(2525);
    let elsewhere: SocketAddr = "127.0.0.1:2525".parse().expect("an address");
    assert_eq!(house.client().socks5(house.sources[1], remote.address())[1], 0);
    refuses(&house.client().socks5(house.sources[0], remote.address()), 2, 11);
    refuses(&house.client().socks5(house.sources[1], elsewhere), 2, 43);
    for _ in 0..8 {
        assert_eq!(house.client().connect(remote.address())[1], 0, "a rotation passes over what no rule allows");
    }
}

#[test]
fn limits_deny_at_connect_and_free_up() {
    let house = House::start("", "[limits.source]\nconnections = 2\n[limits.source_destination]\nconnections = 1");
    let (one, two, three) = (house.remote(2525), house.remote(587), house.remote(465));
    let other = super::support::Remote::at(SocketAddr::new("127.200.7.7".parse().expect("an address"), 2525));
    let first = house.connected(one.address());
    refuses(&house.client().socks5(house.sources[0], two.address()), 1, 31);
    let second = house.connected(other.address());
    let denied = house.client().socks5(house.sources[0], three.address());
    refuses(&denied, 1, 31);
    assert_eq!(house.client().socks5(house.sources[1], one.address())[1], 0, "another source has its own");
    house.measures("egret_proxy_limit_denied_total{limit=\"source_destination\"} 1");
    house.measures("egret_proxy_limit_denied_total{limit=\"source\"} 1");
    let address = first.address();
    drop((first, second));
    drop(one.accept());
    drop(other.accept());
    house.record(address);
    house.connected(one.address());
}

#[test]
fn a_rate_says_when_to_come_again() {
    let house = House::start("", "[limits.client]\nrate = \"2/h\"");
    let remote = house.remote(2525);
    for _ in 0..2 {
        house.connected(remote.address());
    }
    let mut client = house.client();
    refuses(&client.socks5(house.sources[0], remote.address()), 1, 31);
    let record = house.record(client.address());
    let detail = record["detail"].as_str().expect("a detail");
    assert!(detail.contains("limits.client.rate") && detail.contains("retry after "), "{detail}");
    assert_eq!(record["party"].as_str(), Some("limit"));
}

#[test]
fn a_drained_source_is_refused_and_comes_back_and_its_sessions_go_on() {
    let house = House::start("", "");
    let remote = house.remote(2525);
    let source = house.sources[0];
    let mut client = house.connected(remote.address());
    let (mut accepted, _) = remote.accept();
    assert_eq!(house.post(&format!("/v1/sources/{source}/drain")).0, 200);
    refuses(&house.client().socks5(source, remote.address()), 1, 12);
    client.say(b"still");
    assert_eq!(accepted.hear(), *b"still");
    let (_, sources) = house.get("/v1/sources");
    assert_eq!(
        (sources[0]["state"].as_str(), sources[0]["sessions"].as_u64()),
        (Some("draining"), Some(1)),
        "{sources}"
    );
    house.measures("egret_proxy_sources{state=\"draining\"} 1");
    house.measures(&format!("egret_proxy_source_up{{source=\"{source}\"}} 1"));
    assert_eq!(house.post(&format!("/v1/sources/{source}/undrain")).0, 200);
    house.connected(remote.address());
    assert_eq!(house.post("/v1/sources/192.0.2.1/drain").0, 404);
}

#[test]
fn listeners_choose_sources_by_address_and_by_port() {
    let house = House::start("default_sources = \"same_as_dialed\"", "");
    let text = std::fs::read_to_string(house.config()).expect("readable");
    drop(house);
    // A second proxy with the first listener on a held address, and more ports with a source each.
    let other = House::start("", "");
    let at = SocketAddr::new(other.sources[2], 1090);
    let ports =
        format!("{at}\"\ndefault_sources = \"same_as_dialed\"\nsource_by_port = {{ 1091 = \"{}\" }}", other.sources[6]);
    assert!(text.contains("same_as_dialed"));
    let table = format!("[[listener]]\naddress = \"{ports}\n");
    let config = std::fs::read_to_string(other.config()).expect("readable") + &table;
    let config = config.replace(":1080", ":1085").replace(":9180", ":9185");
    let file = other.dir.path().join("second.toml");
    std::fs::write(&file, config).expect("written");
    let arguments = ["serve", "--config", file.to_str().expect("a path")];
    let _second = egret_tests::harness::Program::start("egret-proxy", &arguments, &other.dir.path().join("log2"));
    let remote = other.remote(2525);
    for (port, source) in [(1090, other.sources[2]), (1091, other.sources[6])] {
        let to = SocketAddr::new(at.ip(), port);
        egret_tests::harness::eventually("the listener", || {
            std::net::TcpStream::connect(to).map(drop).map_err(|error| error.to_string())
        });
        assert_eq!(Client::to(to).connect(remote.address())[1], 0);
        assert_eq!(remote.accept().1, source, "port {port}");
    }
}

#[test]
fn clients_of_other_networks_learn_nothing() {
    let house = House::start("client_networks = [\"192.0.2.0/24\"]\nallow_open = true", "");
    let mut client = house.client();
    client.0.set_nodelay(true).expect("set");
    assert_eq!(client.rest(), (Vec::new(), super::support::Ended::Reset));
    let record = house.record(client.address());
    assert_eq!(record["reason"].as_str(), Some("client_denied"));
}
