// A js-libp2p peer that looks around with multicast DNS: prints its address, and each peer that it finds.
//
//   node lan_peer.mjs MULTIADDR

import { noise } from '@libp2p/noise'
import { mdns } from '@libp2p/mdns'
import { ping } from '@libp2p/ping'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'

const node = await createLibp2p({
  addresses: { listen: [process.argv[2]] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  peerDiscovery: [mdns({ interval: 2000 })],
  services: { identify: identify(), ping: ping() }
})
node.addEventListener('peer:discovery', found => {
  console.log(`found ${found.detail.id} ${found.detail.multiaddrs.join(' ')}`)
})
for (const address of node.getMultiaddrs()) {
  console.log(`libp2p node address: ${address}`)
}
