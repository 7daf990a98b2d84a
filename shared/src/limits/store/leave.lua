-- A node says that it is gone: what it holds is dropped by whoever asks next.
redis.call('ZREM', KEYS[1], me)
return {0}
