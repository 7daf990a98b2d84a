-- A node says that it is gone: what it holds is dropped by whoever asks next. KEYS[2]: how many have left so far.
redis.call('ZREM', KEYS[1], me)
redis.call('INCR', KEYS[2])
redis.call('PEXPIRE', KEYS[2], 86400000)
return {0}
