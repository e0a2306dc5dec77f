# The steps of deploy/dry-run, which sources this.
# shellcheck shell=bash

usdc=0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359
weth=0x7ceB23fD6bC0adD59E62ac25578270cFf1b9f619
sol=0xd93f7E271cB87c23AaA73edC008A79646d1F9912
native=0x0000000000000000000000000000000000000000
# The enum Change of the contract.
list_token=0 add_operator=1 set_treasury=2 set_arbiter=3 set_guardian=4

rehearse_refusals() {
  say "refusals"
  refused "owner is not given" deploy
  local maker=0x4e59b44847b379578588920cA78FbF26c0B4956C code
  code="$("$cast" code "$maker")"
  "$cast" rpc anvil_setCode "$maker" 0x00 >/dev/null
  refused "the CREATE2 deployer $maker is not on this chain" deploy "${roles[@]}"
  "$cast" rpc anvil_setCode "$maker" "$code" >/dev/null
  refused "has no code on chain 137, so it is no multisig" deploy "${roles[@]}"
  "$cast" rpc anvil_setCode "$owner" 0x00 >/dev/null
  refused "USDC $usdc: there is no code" deploy "${roles[@]}"
  place "$usdc" "USD Coin" USDT 6 2
  refused 'symbol is "USDT" on the chain, "USDC" in' deploy "${roles[@]}"
  place "$usdc" "USD Coin" USDC 18 2
  refused "decimals is 18 on the chain, 6 in" deploy "${roles[@]}"
  place "$usdc" "USD Coin" USDC 6 1
  refused "not that of \"USD Coin\" or \"USDC\" version \"2\"" deploy "${roles[@]}"
  place "$usdc" "USD Coin" USDC 6 2
  place "$weth" "Wrapped Ether" WETH 18 1
  place "$sol" "Wrapped SOL" SOL 9 1
  place_feeds
  refused "is both guardian and operator" deploy "${roles[@]}" --operator "$guardian"
  refused "its checksum is wrong" deploy "${roles[@]}" --operator 0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266
  refused "has the role operator" deploy "${roles[@]}" --operator 0xa0Ee7A142d267C1f36714E4a8F75612F20a79720
  refused "the RPC serves chain 137, amoy is 80002" env AMOY_RPC_URL="$ETH_RPC_URL" deploy/escrow amoy "${roles[@]}"
  refused "POLYGON_RPC_URL is not set" env -u POLYGON_RPC_URL deploy/escrow polygon "${roles[@]}"
  refused "WEIR_DEPLOYER_KEY is no private key" env WEIR_DEPLOYER_KEY=0x12 deploy/escrow polygon --allow-dirty "${roles[@]}"
  refused "give one of WEIR_DEPLOYER_KEY" env -u WEIR_DEPLOYER_KEY deploy/escrow polygon --allow-dirty "${roles[@]}"
  same "manifests so far" "$(ls "$manifest" 2>/dev/null | wc -l)" 0
}

rehearse_deployment() {
  say "deployment"
  local told
  told="$(env -u WEIR_DEPLOYER_KEY timeout 120 deploy/escrow polygon --allow-dirty --dry-run "${roles[@]}")"
  escrow="$(sed -n 's/^Escrow \(0x[0-9a-fA-F]*\): would be deployed.*/\1/p' <<<"$told")"
  same "code before" "$("$cast" code "$escrow")" 0x
  "$cast" rpc anvil_setCode "$escrow" 0x00 >/dev/null
  refused "Escrow $escrow: the code's hash is" deploy "${roles[@]}"
  "$cast" rpc anvil_setCode "$escrow" 0x >/dev/null
  confirm_blocks &
  local miner=$!
  deploy "${roles[@]}"
  kill "$miner"
  wait "$miner" 2>/dev/null || true
  same "the address that was told before" "$(field escrow.address)" "$escrow"
  lens="$(field lens.address)"
  check_addresses
  check_state
  same "blocks that lack the escrow" "$("$cast" code "$escrow" --block $(($(field escrow.block) - 1)))" 0x
  cp "$manifest" "$work/first.json"
  local nonce
  nonce="$("$cast" nonce 0xa0Ee7A142d267C1f36714E4a8F75612F20a79720)"
  say "again"
  env -u WEIR_DEPLOYER_KEY timeout 120 deploy/escrow polygon --allow-dirty --out "$manifest" "${roles[@]}"
  same "the deployer's nonce" "$("$cast" nonce 0xa0Ee7A142d267C1f36714E4a8F75612F20a79720)" "$nonce"
  cmp "$work/first.json" "$manifest"
  rm "$manifest"
  env -u WEIR_DEPLOYER_KEY timeout 120 deploy/escrow polygon --allow-dirty --out "$manifest" "${roles[@]}"
  # Rebuilt from the chain alone.
  cmp "$work/first.json" "$manifest"
  sed -i "s/\"block\": .*/\"block\": 1,/" "$manifest"
  refused "differs from the chain in escrow.block, lens.block" deploy "${roles[@]}"
  cp "$work/first.json" "$manifest"
}

# Where Polygon has its price feeds, some that answer what they are told here.
place_feeds() {
  local pair symbol rest
  local -A answers=([POL]=25000000 [WETH]=300000000000 [SOL]=15000000000 [USDC]=99980000)
  while IFS='=' read -r symbol rest; do
    pair="${symbol/WETH/ETH} / USD"
    node deploy/lib/place.mjs "$ETH_RPC_URL" crates/escrow/abi/LocalFeed.json "${rest%/*}" 8 "$pair" "${answers[$symbol]}"
  done < <(node -p 'JSON.parse(fs.readFileSync("deploy/networks/polygon.json")).priceFeeds.replaceAll(",", "\n")')
}

adopt() { RPC_URL="$ETH_RPC_URL" timeout 120 "$weir" adopt "$manifest" --network deploy/networks/polygon.json "$@"; }

# says TEXT COMMAND..: the command succeeds and says so
says() {
  local text="$1" output
  shift
  checks=$((checks + 1))
  output="$("$@" 2>&1)" || fail "$*: $output"
  [[ "$output" == *"$text"* ]] || fail "not said: \"$text\": $output"
}

# The deployment in the database, which knew none.
rehearse_adoption() {
  say "adoption"
  # what was deployed has to be final
  "$cast" rpc anvil_mine 0x60 >/dev/null
  refused "weir adopt" env RPC_URL="$ETH_RPC_URL" WEIR_OPERATOR_KEY="$WEIR_DEPLOYER_KEY" "$weir" work
  refused "WEIR_ESCROW is $usdc" env WEIR_ESCROW="$usdc" RPC_URL="$ETH_RPC_URL" \
    "$weir" adopt "$manifest" --network deploy/networks/polygon.json
  refused "the network's file is of chain 80002" env RPC_URL="$ETH_RPC_URL" \
    "$weir" adopt "$manifest" --network deploy/networks/amoy.json
  sed -i 's/"block": .*/"block": 1,/' "$manifest"
  refused "in block 1: is not so" adopt
  cp "$work/first.json" "$manifest"
  says "dry run: nothing was recorded" adopt --dry-run
  adopt
  says "all of it is recorded already" adopt
  says "priced by this feed" work_for_a_moment
}

# A worker with Polygon's feeds; its key is nobody's, and so it sends nothing.
work_for_a_moment() {
  local feeds status=0
  feeds="$(node -p 'JSON.parse(fs.readFileSync("deploy/networks/polygon.json")).priceFeeds')"
  RPC_URL="$ETH_RPC_URL" WEIR_ESCROW="$escrow" WEIR_PRICE_FEEDS="$feeds" WEIR_OPERATOR_KEY="$WEIR_DEPLOYER_KEY" \
    timeout --kill-after 20 5 "$weir" work || status=$?
  # told to stop after five seconds
  [ "$status" -eq 124 ]
}

# Blocks come by transactions only; these are the ones that a deployment waits for.
confirm_blocks() {
  local turn
  for turn in $(seq 240); do
    "$cast" rpc anvil_mine 0x20 >/dev/null
    sleep 0.5
  done
  fail "nothing confirmed after $turn turns"
}

# By cast, which shares no code with the script that deployed.
check_addresses() {
  local arguments code
  arguments="$("$cast" abi-encode "f((address,address,address,address,address[],address[]))" \
    "($owner,$guardian,$treasury,$arbiter,[$operator],[$native,$usdc,$weth,$sol])")"
  code="$(node -p 'JSON.parse(fs.readFileSync("crates/escrow/abi/Escrow.json")).bytecode.object')"
  same "CREATE2 address" "$(address_of "$code${arguments#0x}")" "$escrow"
  code="$(node -p 'JSON.parse(fs.readFileSync("crates/escrow/abi/Lens.json")).bytecode.object')"
  same "the lens's" "$(address_of "$code$("$cast" abi-encode "f(address)" "$escrow" | cut -c3-)")" "$lens"
  same "code hash" "$("$cast" codehash "$escrow")" "$(field escrow.codeHash)"
  same "the lens's" "$("$cast" codehash "$lens")" "$(field lens.codeHash)"
  same "USDC's code hash" "$("$cast" codehash "$usdc")" "$(field tokens.1.codeHash)"
  same "chain" "$(field chainId)" 137
  same "genesis" "$("$cast" block 0 --field hash)" "$(field genesisHash)"
  local part
  for part in escrow lens; do
    same "block of $part" "$("$cast" receipt "$(field "$part.transaction")" blockNumber)" "$(field "$part.block")"
  done
}

address_of() {
  printf '%s' "$1" >"$work/init"
  "$cast" create2 --deployer "$(field create2.deployer)" --salt "$(field create2.salt)" \
    --init-code-hash "$("$cast" keccak <"$work/init")"
}

check_state() {
  same owner "$(answer 'owner()(address)')" "$owner"
  same guardian "$(answer 'guardian()(address)')" "$guardian"
  same treasury "$(answer 'treasury()(address)')" "$treasury"
  same arbiter "$(answer 'arbiter()(address)')" "$arbiter"
  same "the operator's right" "$(answer 'isOperator(address)(bool)' "$operator")" true
  same "the deployer's right" "$(answer 'isOperator(address)(bool)' 0xa0Ee7A142d267C1f36714E4a8F75612F20a79720)" false
  same separator "$(answer 'domainSeparator()(bytes32)')" "$(field domain.separator)"
  same "the lens's escrow" "$("$cast" call "$lens" 'ESCROW()(address)')" "$escrow"
  local token
  for token in "$native" "$usdc" "$weth" "$sol"; do
    same "state of $token" "$(answer 'tokenState(address)(bool,bool)' "$token" | tr '\n' ' ')" "true false "
  done
}

# A rental in POL, from its lock to the provider's money.
rehearse_rental() {
  say "a rental"
  local renter=0x0000000000000000000000000000000000000b01 provider=0x0000000000000000000000000000000000000b02
  local moment type terms
  moment="$("$cast" block latest --field timestamp)"
  type="(address,address,address,uint96,uint16,uint40,uint32,bytes32)"
  # A million wei a second, a day's deposit; small, for the shell's sums have 63 bits.
  terms="($renter,$provider,$native,3600000000,1200,$((moment + 900)),3600,$("$cast" keccak order))"
  as "$renter" "$escrow" "lock($type,uint96)" "$terms" 86400000000 --value 86400000000
  as "$operator" "$escrow" "start($type,uint40)" "$terms" "$("$cast" block latest --field timestamp)"
  later 7200
  as "$renter" "$escrow" "stop($type)" "$terms"
  local net fee held
  net="$(answer 'balanceOf(address,address)(uint256)' "$provider" "$native")"
  fee="$(answer 'balanceOf(address,address)(uint256)' "$treasury" "$native")"
  held="$("$cast" balance "$escrow")"
  same "what the escrow holds" "$held" "$((net + fee))"
  same "the fee" "$fee" "$(((net + fee) * 1200 / 10000))"
  # Blocks come by themselves, so that it may be some seconds more.
  local secs=$(((net + fee) / 1000000))
  [ "$secs" -ge 7200 ] && [ "$secs" -lt 7230 ] || fail "two hours were billed as $secs s"
  as "$provider" "$escrow" "withdraw(address,address,uint96)" "$native" "$provider" 0
  same "what the escrow holds" "$("$cast" balance "$escrow")" "$fee"
}

# reverts ERROR ARGUMENT..: a call that the contract refuses with that error
reverts() {
  local selector
  selector="$("$cast" sig "$1")"
  refused "$selector" "$cast" call "${@:2}"
}

# enact CHANGE SUBJECT: through the timelock, as the runbook has it
enact() {
  as "$owner" "$escrow" "scheduleChange(uint8,address)" "$1" "$2"
  reverts "ChangeTooEarly()" --from "$owner" "$escrow" "executeChange(uint8,address)" "$1" "$2"
  later 172801
  as "$owner" "$escrow" "executeChange(uint8,address)" "$1" "$2"
  same "readyAt" "$(answer 'readyAt(uint8,address)(uint40)' "$1" "$2")" 0
}

rehearse_runbook() {
  say "the runbook"
  local other=0x0000000000000000000000000000000000000c01 token=0x0000000000000000000000000000000000000c02
  enact "$add_operator" "$other"
  same "the new operator" "$(answer 'isOperator(address)(bool)' "$other")" true
  as "$guardian" "$escrow" "removeOperator(address)" "$operator"
  same "the stolen operator" "$(answer 'isOperator(address)(bool)' "$operator")" false
  as "$guardian" "$escrow" "pauseToken(address)" "$usdc"
  same "paused" "$(answer 'tokenState(address)(bool,bool)' "$usdc" | tr '\n' ' ')" "true true "
  reverts "OwnableUnauthorizedAccount(address)" --from "$guardian" "$escrow" "unpauseToken(address)" "$usdc"
  as "$owner" "$escrow" "unpauseToken(address)" "$usdc"
  same "open again" "$(answer 'tokenState(address)(bool,bool)' "$usdc" | tr '\n' ' ')" "true false "
  place "$token" "Another Token" OTH 18 1
  enact "$list_token" "$token"
  same "listed" "$(answer 'tokenState(address)(bool,bool)' "$token" | tr '\n' ' ')" "true false "
  enact "$set_treasury" "$other"
  same treasury "$(answer 'treasury()(address)')" "$other"
  enact "$set_arbiter" "$other"
  same arbiter "$(answer 'arbiter()(address)')" "$other"
  as "$guardian" "$escrow" "removeArbiter()"
  same "no arbiter" "$(answer 'arbiter()(address)')" "$native"
  as "$owner" "$escrow" "scheduleChange(uint8,address)" "$set_arbiter" "$arbiter"
  as "$owner" "$escrow" "cancelChange(uint8,address)" "$set_arbiter" "$arbiter"
  same "what was cancelled" "$(answer 'readyAt(uint8,address)(uint40)' "$set_arbiter" "$arbiter")" 0
  enact "$set_guardian" "$other"
  same guardian "$(answer 'guardian()(address)')" "$other"
  as "$owner" "$escrow" "transferOwnership(address)" "$other"
  same "owner until accepted" "$(answer 'owner()(address)')" "$owner"
  as "$other" "$escrow" "acceptOwnership()"
  same "new owner" "$(answer 'owner()(address)')" "$other"
}

# Roles have changed: that is told, and nothing is deployed or refused.
rehearse_later_run() {
  say "a later run"
  local told
  told="$(env -u WEIR_DEPLOYER_KEY timeout 120 deploy/escrow polygon --allow-dirty --out "$manifest" "${roles[@]}")"
  local name
  for name in owner guardian treasury arbiter "isOperator($operator)"; do
    checks=$((checks + 1))
    [[ "$told" == *"note: changed since the deployment: $name is "* ]] || fail "not told: $name has changed"
  done
  cmp "$work/first.json" "$manifest"
}

# Roles that have changed are a matter for a person; the database belongs to this deployment for ever.
rehearse_later_adoption() {
  say "a later adoption"
  "$cast" rpc anvil_mine 0x60 >/dev/null
  refused "changed since the deployment: owner is " adopt
  says "all of it is recorded already" adopt --changed-roles
  sed -i "s/\"genesisHash\": .*/\"genesisHash\": \"$("$cast" keccak another)\",/" "$manifest"
  refused "the database belongs to the contract" adopt --changed-roles
  cp "$work/first.json" "$manifest"
}
