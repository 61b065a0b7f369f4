-- Drops up to 255 members past max_entries. ARGV: nonce, event counter. Returns how many it dropped.
return (trim(string.format('%s%014x', ARGV[1], tonumber(ARGV[2])), ''))
