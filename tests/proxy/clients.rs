//! Other people's clients: curl, nc, swaks, PySocks, python-socks, node's socks, HAProxy.

use std::net::SocketAddr;
use std::process::Command;
use std::thread::JoinHandle;

use egret_tests::harness::{Program, addresses, eventually};

use super::support::{House, Remote, run};

/// Greets `count` clients and says goodbye to each that says QUIT.
fn mail_server(remote: &Remote, count: usize) -> JoinHandle<Vec<std::net::IpAddr>> {
    let remote = Remote(remote.0.try_clone().expect("a second handle"));
    std::thread::spawn(move || {
        let greet = |_| {
            let (mut client, from) = remote.accept();
            // As far away as mail servers are: python-socks takes a banner that comes with the reply for
            // a part of it, and loses it.
            std::thread::sleep(std::time::Duration::from_millis(200));
            client.say(b"220 mx.test ESMTP\r\n");
            let mut heard = Vec::new();
            while !heard.ends_with(b"\r\n") || !heard.to_ascii_uppercase().windows(4).any(|word| word == b"QUIT") {
                let Ok([byte]) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client.hear::<1>())) else {
                    break;
                };
                heard.push(byte);
                let line = heard.split(|byte| *byte == b'\n').rev().nth(1).unwrap_or_default().to_ascii_uppercase();
                if byte == b'\n' && !line.starts_with(b"QUIT") {
                    client.say(b"250 fine\r\n");
                }
            }
            let _ = std::io::Write::write_all(&mut client.0, b"221 bye\r\n");
            from
        };
        (0..count).map(greet).collect()
    })
}

/// Where Debian keeps node's modules.
const NODE_PATH: &str = "/usr/share/nodejs";

/// True if the tool is here; `make test` installs them all.
fn has(tool: &str, arguments: &[&str]) -> bool {
    let found = Command::new(tool)
        .args(arguments)
        .env("NODE_PATH", NODE_PATH)
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("skipped: {tool} {arguments:?} does not work here");
    }
    found
}

#[test]
fn curl_dials_through_socks5_and_hears_why_not() {
    let house = House::start("", "");
    let remote = house.remote(2525);
    let serving = mail_server(&remote, 1);
    let proxy = format!("socks5://{}", house.at);
    let url = format!("smtp://{}/client.test", remote.address());
    let curl = |url: &str| run(Command::new("curl").args(["-sS", "-m", "10", "--proxy", &proxy, url, "-X", "NOOP"]));
    let (code, shown) = curl(&url);
    assert_eq!(code, 0, "{shown}");
    assert!(house.sources.contains(&serving.join().expect("served")[0]));
    let (code, shown) = curl(&format!("smtp://{}:587/", house.remote));
    assert!(code == 97 && shown.contains("Can't complete SOCKS5 connection"), "{code}: {shown}");
}

#[test]
fn curl_and_swaks_send_proxy_headers() {
    let house = House::start("protocol = \"auto\"", "");
    let remote = house.remote(2525);
    let to = remote.address();
    let serving = mail_server(&remote, 2);
    for version in ["1", "2"] {
        let (code, shown) = run(Command::new("swaks")
            .args([
                "--server",
                &house.at.to_string(),
                "--quit-after",
                "HELO",
                "--helo",
                "x",
                "--proxy-version",
                version,
            ])
            .args(["--proxy-family", if version == "1" { "TCP4" } else { "AF_INET" }, "--proxy-source-port", "1"])
            .args(["--proxy-source", &house.sources[5].to_string(), "--proxy-dest", &to.ip().to_string()])
            .args(["--proxy-dest-port", &to.port().to_string()])
            .args(if version == "2" { &["--proxy-protocol", "STREAM"][..] } else { &[] }));
        assert!(code == 0 && shown.contains("220 mx.test"), "{version}: {shown}");
    }
    assert_eq!(serving.join().expect("served"), [house.sources[5]; 2]);
    let (_, shown) = run(Command::new("swaks").args([
        "--server",
        &house.at.to_string(),
        "--quit-after",
        "BANNER",
        "--proxy",
        "TCP4 not an address",
    ]));
    assert!(shown.contains("421 4.3.5 egret-proxy["), "{shown}");
}

#[test]
fn nc_and_scripts_dial_through_socks5() {
    let house = House::start("", "");
    let remote = house.remote(2525);
    let (at, to) = (house.at, remote.address());
    let (ip, port) = (at.ip().to_string(), at.port().to_string());
    let (host, host_port) = (to.ip().to_string(), to.port().to_string());
    let python = |module: &str, dial: &str| {
        format!(
            "import socket, {module}\n{dial}\nprint(s.recv(100).decode())\ns.sendall(b'QUIT\\r\\n')\nprint(s.recv(100))"
        )
    };
    let pysocks = python(
        "socks",
        &format!(
            "s = socks.socksocket(); s.set_proxy(socks.SOCKS5, '{ip}', {port}); s.connect(('{host}', {host_port}))"
        ),
    );
    let python_socks = python(
        "python_socks.sync as p",
        &format!("s = p.Proxy.from_url('socks5://{at}').connect(dest_host='{host}', dest_port={host_port})"),
    );
    let node = format!(
        "const {{SocksClient}} = require('socks'); SocksClient.createConnection({{proxy: {{host: '{ip}', port: {port}, \
         type: 5}}, command: 'connect', destination: {{host: '{host}', port: {host_port}}}}}).then(({{socket}}) => {{ \
         socket.on('data', d => {{ console.log(d.toString()); if (d.toString().startsWith('220')) \
         socket.write('QUIT\\r\\n'); else socket.end(); }}); socket.resume(); }}, e => {{ console.log(e.message); process.exit(1); }})"
    );
    let nc = format!("printf 'QUIT\\r\\n' | nc.openbsd -w 5 -X 5 -x {at} {host} {host_port}");
    let clients: [(&str, &[&str], &str, &str); 4] = [
        ("/usr/bin/python3", &["-c", "import socks"], "-c", &pysocks),
        ("/usr/bin/python3", &["-c", "import python_socks.sync"], "-c", &python_socks),
        ("node", &["-e", "require('socks')"], "-e", &node),
        ("sh", &["-c", "command -v nc.openbsd"], "-c", &nc),
    ];
    for (tool, probe, flag, script) in clients {
        if !has(tool, probe) {
            continue;
        }
        let serving = mail_server(&remote, 1);
        let (code, shown) = run(Command::new(tool).args([flag, script]).env("NODE_PATH", NODE_PATH));
        assert!(code == 0 && shown.contains("220 mx.test"), "{tool} {script}: {shown}");
        assert!(house.sources.contains(&serving.join().expect("served")[0]));
        let refused = script.replace(&host_port, "587");
        let (_, shown) = run(Command::new(tool).args([flag, refused.as_str()]).env("NODE_PATH", NODE_PATH));
        assert!(shown.to_lowercase().contains("refused"), "{tool} {refused}: {shown}");
    }
}

#[test]
fn the_real_haproxy_sends_headers_and_checks_health() {
    let house = House::start("protocol = \"proxy\"", "");
    let own = addresses(4);
    let front = SocketAddr::new(own[0].into(), 2500);
    let remote = Remote::at(SocketAddr::new(own[1].into(), 2525));
    let config = format!(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
         frontend f\n  bind {front}\n  tcp-request connection set-dst ipv4({to})\n  tcp-request connection set-dst-port int({port})\n\
         \x20 default_backend b\n\
         backend b\n  server egret {at} send-proxy-v2 check check-send-proxy inter 100ms\n",
        to = remote.address().ip(),
        port = remote.address().port(),
        at = house.at
    );
    let file = house.dir.path().join("haproxy.cfg");
    std::fs::write(&file, config).expect("written");
    let haproxy = Program::spawn(
        Command::new("/usr/sbin/haproxy").args(["-db", "-f"]).arg(&file),
        &house.dir.path().join("haproxy.log"),
    );
    // Its checks are LOCAL headers: silent probes.
    eventually("HAProxy's checks", || {
        let line = format!("egret_proxy_probes_total{{listener=\"{}\"}} ", house.at);
        let text = house.metrics();
        let count = text.lines().find_map(|found| found.strip_prefix(&line)?.parse::<u64>().ok());
        if count.is_some_and(|count| count >= 3) { Ok(()) } else { Err(haproxy.log()) }
    });
    // A client that comes from a held address: HAProxy tells it as the source.
    let source = SocketAddr::new(house.sources[4], 0);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&source.into()).expect("bound");
    socket.connect(&front.into()).expect("connected");
    let mut client = super::support::Client::on(socket.into());
    let (mut accepted, from) = remote.accept();
    assert_eq!(from, house.sources[4]);
    accepted.say(b"220 hi\r\n");
    assert_eq!(client.hear(), *b"220 hi\r\n");
}
