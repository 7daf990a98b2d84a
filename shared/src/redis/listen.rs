//! Messages that others publish: a connection of its own, made anew whenever it breaks.
//! Floor 3. Opens a socket.
//! Messages can be missed while it is broken: who waits for one looks again from time to time.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::link::client_of_master;
use super::{Redis, RedisFailure};

/// After so long without a message it is asked whether the server is still there.
const QUIET: Duration = Duration::from_secs(5);

impl Redis {
    /// Hands on what is published on `channel` (as it is: see [`Redis::key`]) until nobody takes it any more; an
    /// empty message each time that something may have been missed. What nobody has room for is dropped, too.
    pub async fn listen(&self, channel: &str, messages: mpsc::Sender<String>) {
        let mut attempt = 0;
        while !messages.is_closed() {
            let heard = tokio::select! {
                heard = self.hear(channel, &messages) => heard,
                () = messages.closed() => return,
            };
            attempt = if heard.is_ok() { 0 } else { attempt + 1 };
            if let Err(failure) = heard {
                tracing::debug!(%failure, channel, "messages cannot be heard; tried again");
            }
            Self::back_off(attempt).await;
        }
    }

    /// Returns when a connection that stood has ended.
    async fn hear(&self, channel: &str, messages: &mpsc::Sender<String>) -> Result<(), RedisFailure> {
        let options = self.options();
        let failed = |error| RedisFailure::of(options, None, &error);
        let opened = async {
            let client = client_of_master(options).await?;
            let mut heard = client.get_async_pubsub().await.map_err(failed)?;
            heard.subscribe(channel).await.map_err(failed)?;
            Ok(heard)
        };
        let opened = timeout(options.connect_timeout + options.timeout, opened).await;
        let (mut sink, mut stream) = opened.unwrap_or_else(|_| Err(RedisFailure::unreachable(options)))?.split();
        let _ = messages.try_send(String::new());
        loop {
            match timeout(QUIET, stream.next()).await {
                Ok(Some(message)) => {
                    if let Ok(text) = message.get_payload::<String>() {
                        let _ = messages.try_send(text);
                    }
                }
                Ok(None) => return Ok(()),
                Err(_) => match timeout(options.timeout, sink.ping::<redis::Value>()).await {
                    Ok(Ok(_)) => {}
                    _ => return Ok(()),
                },
            }
        }
    }
}
