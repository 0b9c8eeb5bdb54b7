// A js-libp2p peer for the tests of circuits and punches.
//
//   node interop_relay.mjs server LISTEN          relays without limits that matter
//   node interop_relay.mjs behind RELAY [LISTEN]  takes a place at a relay, with DCUtR
//   node interop_relay.mjs dial ADDRESS [LISTEN]  dials, perhaps through a relay, and pings
//
// Prints `ADDR multiaddr` for each of its addresses, `PING ms` and `OPEN multiaddr` for each connection.

import { circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { dcutr } from '@libp2p/dcutr'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const [mode, address, own] = process.argv.slice(2)
const services = { identify: identify(), ping: ping(), dcutr: dcutr() }
let listen = []
if (mode === 'server') {
  listen = [address]
  const reservations = { defaultDataLimit: BigInt(1) << BigInt(34), defaultDurationLimit: 3600000 }
  services.relay = circuitRelayServer({ reservations })
} else if (mode === 'behind') {
  listen = [address + '/p2p-circuit', own ?? '/ip4/127.0.0.1/tcp/0']
} else if (own) {
  listen = [own]
}
const node = await createLibp2p({
  addresses: { listen },
  transports: [tcp(), circuitRelayTransport()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services,
  connectionGater: { denyDialMultiaddr: () => false }
})
const told = new Set()
function tell () {
  for (const each of node.getMultiaddrs()) {
    if (!told.has(String(each))) {
      told.add(String(each))
      console.log('ADDR', String(each))
    }
  }
}
node.addEventListener('connection:open', event => console.log('OPEN', String(event.detail.remoteAddr)))
node.addEventListener('self:peer:update', tell)
tell()
if (mode === 'dial') {
  const connection = await node.dial(multiaddr(address), { signal: AbortSignal.timeout(90000) })
  console.log('PING', await node.services.ping.ping(connection.remotePeer))
}
