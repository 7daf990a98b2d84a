//! A connection to Redis: to the one server, the master that the sentinels name, or a cluster.
//! Floor 3. Opens sockets.

use std::time::Duration;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo,
    RedisResult, TlsCertificates, Value, cmd,
};

use super::{Mode, RedisFailure, RedisOptions};

/// Data that was sent and is not acknowledged for so long breaks the connection.
const USER_TIMEOUT: Duration = Duration::from_secs(3);
/// Commands that may wait to be written.
const PIPELINE: usize = 1024;
/// In a cluster a command may be sent on to another server, so it may take longer.
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection. Cheap to clone; commands of all clones share it.
#[derive(Clone)]
pub(super) enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    pub(super) async fn open(options: &RedisOptions) -> Result<Self, RedisFailure> {
        let failed = |error| RedisFailure::of(options, None, &error);
        if options.mode == Mode::Cluster {
            let client = cluster(options).map_err(failed)?;
            return client.get_async_connection().await.map(Self::Cluster).map_err(failed);
        }
        let client = client_of_master(options).await?;
        multiplexed(&client, options).await.map(Self::One).map_err(failed)
    }

    pub(super) async fn call(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(command).await,
            Self::Cluster(connection) => connection.req_packed_command(command).await,
        }
    }
}

async fn multiplexed(client: &Client, options: &RedisOptions) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(options.connect_timeout))
        // Who calls has the deadline.
        .set_response_timeout(None)
        .set_pipeline_buffer_size(PIPELINE);
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// A client of the server that takes commands. With `Mode::Cluster`, of the first one: for messages any will do.
pub(super) async fn client_of_master(options: &RedisOptions) -> Result<Client, RedisFailure> {
    let failed = |error| RedisFailure::of(options, None, &error);
    if options.mode != Mode::Sentinel {
        // Several are tried in turn.
        let mut last = RedisFailure::plain(options, "there is no address; redis.address".to_owned());
        for (host, port) in &options.addresses {
            let client = client(options, host, *port, Login::Server).map_err(failed)?;
            if options.addresses.len() == 1 {
                return Ok(client);
            }
            match multiplexed(&client, options).await {
                Ok(_) => return Ok(client),
                Err(error) => last = failed(error),
            }
        }
        return Err(last);
    }
    let mut said = Vec::new();
    for (host, port) in &options.addresses {
        match ask_sentinel(options, host, *port).await {
            Ok((master, port)) => return client(options, &master, port, Login::Server).map_err(failed),
            Err(why) => said.push(format!("{host}:{port}: {why}")),
        }
    }
    let name = &options.master_name;
    Err(RedisFailure::plain(options, format!("no sentinel names the master of {name:?}: {}", said.join("; "))))
}

/// Where the master is. A sentinel that is partitioned may be wrong: the server is asked, too, by the first command.
async fn ask_sentinel(options: &RedisOptions, host: &str, port: u16) -> Result<(String, u16), String> {
    let each = options.connect_timeout / u32::try_from(options.addresses.len().max(1)).unwrap_or(1);
    let ask = async {
        let client = client(options, host, port, Login::Sentinel)?;
        let mut connection = multiplexed(&client, options).await?;
        let mut command = cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&options.master_name);
        command.query_async::<Option<(String, u16)>>(&mut connection).await
    };
    match tokio::time::timeout(each, ask).await {
        Err(_) => Err("no answer".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(None)) => Err("does not know it; redis.master_name".to_owned()),
        Ok(Ok(Some(address))) => Ok(address),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Login {
    Server,
    Sentinel,
}

fn client(options: &RedisOptions, host: &str, port: u16, login: Login) -> RedisResult<Client> {
    let info = info(options, host, port, login)?;
    if !options.tls {
        return Client::open(info);
    }
    Client::build_with_tls(info, certificates(options)?)
}

fn certificates(options: &RedisOptions) -> RedisResult<TlsCertificates> {
    let root_cert = options.ca_file.as_ref().map(std::fs::read).transpose()?;
    Ok(TlsCertificates { client_tls: None, root_cert })
}

fn info(options: &RedisOptions, host: &str, port: u16, login: Login) -> RedisResult<ConnectionInfo> {
    let host = host.to_owned();
    let address = if options.tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let mut redis = RedisConnectionInfo::default();
    let (username, password) = match login {
        Login::Server => (&options.username, options.password()?),
        Login::Sentinel => (&None, options.sentinel_password.clone()),
    };
    if let Some(username) = username {
        redis = redis.set_username(username);
    }
    if let Some(password) = password {
        redis = redis.set_password(password);
    }
    if login == Login::Server && options.mode != Mode::Cluster {
        redis = redis.set_db(options.db);
    }
    let tcp = TcpSettings::default().set_nodelay(true).set_user_timeout(USER_TIMEOUT);
    Ok(address.into_connection_info()?.set_redis_settings(redis).set_tcp_settings(tcp))
}

fn cluster(options: &RedisOptions) -> RedisResult<ClusterClient> {
    let nodes: RedisResult<Vec<ConnectionInfo>> =
        options.addresses.iter().map(|(host, port)| info(options, host, *port, Login::Server)).collect();
    let mut builder: ClusterClientBuilder = ClusterClient::builder(nodes?)
        .connection_timeout(options.connect_timeout)
        .response_timeout(CLUSTER_TIMEOUT)
        .overall_response_timeout(Some(CLUSTER_TIMEOUT))
        .retries(3)
        .tcp_settings(TcpSettings::default().set_nodelay(true).set_user_timeout(USER_TIMEOUT));
    if options.tls {
        builder = builder.certs(certificates(options)?);
    }
    builder.build()
}
