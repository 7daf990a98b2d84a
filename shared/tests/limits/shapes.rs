//! Redis behind sentinels, as a cluster, and with TLS.

use egret_shared::redis::{Mode, RedisOptions, Value};

use super::server::{Node, Server, cluster, count, free_port, say, throttle, until};

#[tokio::test]
async fn sentinels_name_a_new_master_and_limits_follow() {
    if !Server::is_installed() {
        return;
    }
    let mut master = Server::start(&[]);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let folder = tempfile::tempdir().expect("a folder");
    let sentinels: Vec<Server> = (0..3)
        .map(|at| {
            let (port, file) = (free_port(), folder.path().join(format!("{at}.conf")));
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor fleet 127.0.0.1 {} 2\n\
                 sentinel down-after-milliseconds fleet 1000\nsentinel failover-timeout fleet 4000\n",
                folder.path().display(),
                master.port
            );
            std::fs::write(&file, text).expect("a file");
            Server::start_at(port, &[file.to_str().expect("a path"), "--sentinel"])
        })
        .collect();
    let addresses = sentinels.iter().map(|sentinel| ("127.0.0.1".to_owned(), sentinel.port)).collect();
    let options =
        RedisOptions { mode: Mode::Sentinel, addresses, master_name: "fleet".to_owned(), ..RedisOptions::one("", 0) };
    // All know each other and the replica before the master goes.
    for sentinel in &sentinels {
        loop {
            let known = sentinel.say(&["SENTINEL", "MASTER", "fleet"]).await;
            let text = format!("{known:?}").replace("bulk-string('\"", "").replace("\"')", "");
            let is = |field: &str, number: &str| text.replace(' ', "").contains(&format!("{field},{number},"));
            if is("num-slaves", "1") && is("num-other-sentinels", "2") {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    let (a, b) = (Node::start("a", &options), Node::start("b", &options));
    let two = [count("two", 2)];
    let held = (a.hold(&two).await, b.hold(&two).await);
    until("both to know of each other", || (a.limits.nodes() == 2 && b.limits.nodes() == 2).then_some(())).await;
    master.kill();
    // Whether a node sees the gap depends on how quick the sentinels are; who is the master now does not.
    loop {
        let role = say(&replica.options(), &["ROLE"]).await;
        if matches!(&role, Value::Array(parts) if format!("{:?}", parts[0]).contains("master")) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    a.is_well().await;
    b.is_well().await;
    until("the new master to know both", || (a.limits.nodes() == 2 && b.limits.nodes() == 2).then_some(())).await;
    assert!(a.try_hold(&two).is_err() && b.try_hold(&two).is_err(), "what is held was told to the new master");
    drop(held.0);
    drop(b.hold(&two).await);
}

#[tokio::test]
async fn a_cluster_keeps_limits_in_all_its_parts() {
    if !Server::is_installed() {
        return;
    }
    let (servers, options) = cluster().await;
    let (a, b) = (Node::start("a", &options), Node::start("b", &options));
    // Enough names that each part of the cluster has some.
    for at in 0..24 {
        let (one, rate) = ([count(&format!("count {at}"), 1)], [throttle(&format!("rate {at}"), "4/h")]);
        let held = a.hold(&one).await;
        assert!(b.try_hold(&one).is_err());
        assert_eq!(a.drain(&rate).await + b.drain(&rate).await, 4);
        drop(held);
        drop(b.hold(&one).await);
    }
    for server in &servers {
        assert_ne!(server.say(&["DBSIZE"]).await, Value::Int(0), "each part has some");
        server.say(&["SCRIPT", "FLUSH"]).await;
    }
    drop(a.hold(&[count("count 0", 1)]).await);
    a.is_well().await;
}

#[tokio::test]
async fn limits_are_kept_over_tls() {
    if !Server::is_installed() {
        return;
    }
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("a key");
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("cert.pem"), key.cert.pem()).expect("a file");
    std::fs::write(path("key.pem"), key.signing_key.serialize_pem()).expect("a file");
    let (port, cert, private) = (free_port(), path("cert.pem"), path("key.pem"));
    let text = |path: &std::path::Path| path.to_str().expect("a path").to_owned();
    let tls_port = port.to_string();
    let (cert_text, key_text) = (text(&cert), text(&private));
    let args = [
        "--port",
        "0",
        "--tls-port",
        &tls_port,
        "--tls-cert-file",
        &cert_text,
        "--tls-key-file",
        &key_text,
        "--tls-auth-clients",
        "no",
        "--requirepass",
        "secret",
    ];
    let server = Server::start_at(port, &args);
    let password = path("password");
    std::fs::write(&password, "secret\n").expect("a file");
    let options = RedisOptions {
        tls: true,
        ca_file: Some(cert),
        password_file: Some(password),
        ..RedisOptions::one("localhost", server.port)
    };
    let (a, b) = (Node::start("a", &options), Node::start("b", &options));
    let one = [count("one", 1)];
    let held = a.hold(&one).await;
    assert!(b.try_hold(&one).is_err());
    drop(held);
    drop(b.hold(&one).await);
    let stranger = Node::start("c", &RedisOptions { ca_file: None, ..options });
    let why = stranger.is_degraded().await;
    assert!(why.contains("ertificate") || why.contains("UnknownIssuer"), "{why}");
}
