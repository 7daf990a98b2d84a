//! Health and metrics of both programs over HTTP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use egret_tests::harness::{Fleet, Options};

fn get(from: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(from).expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("readable");
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, answer)
}

#[test]
fn both_are_live_ready_and_measured() {
    let fleet = Fleet::start(&Options { dialect: Some("socks5"), ..Options::default() });
    for (admin, metric) in
        [(fleet.mta_admin, "egret_mta_queue_parts"), (fleet.proxy_admin, "egret_proxy_sources{state=\"held\"} 8")]
    {
        for path in ["/livez", "/readyz"] {
            let (status, answer) = get(admin, path);
            assert_eq!(status, 200, "{path}: {answer}");
        }
        let (status, answer) = get(admin, "/metrics");
        assert!(status == 200 && answer.contains(metric), "{metric} is missing: {answer}");
        assert_eq!(get(admin, "/nothing").0, 404);
    }
}
