// A js-libp2p peer for the interop tests: TCP, Noise, Yamux, ping, and the test's data protocols.
//
//   node interop_peer.mjs listen                   prints its address, serves until it is ended
//   node interop_peer.mjs ping ADDRESS COUNT
//   node interop_peer.mjs MODES ADDRESS SIZES [--late-fin]
//
// The data protocols and the output are those of interop_peer.py, which describes them.

import { createHash } from 'node:crypto'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const ECHO = '/swarm-test/echo/1.0.0'
const SINK = '/swarm-test/sink/1.0.0'
const SOURCE = '/swarm-test/source/1.0.0'
const BLOCK = 65536
const HEADER = 9

function block (index) {
  const number = Buffer.alloc(8)
  number.writeBigUInt64BE(BigInt(index))
  const digest = createHash('sha256').update(number).digest()
  return Buffer.alloc(BLOCK, digest)
}

async function sendPattern (stream, size) {
  for (let at = 0; at < size; at += BLOCK) {
    await sendAll(stream, block(at / BLOCK).subarray(0, Math.min(BLOCK, size - at)))
  }
}

function patternHash (size) {
  const hash = createHash('sha256')
  for (let at = 0; at < size; at += BLOCK) {
    hash.update(block(at / BLOCK).subarray(0, Math.min(BLOCK, size - at)))
  }
  return hash.digest()
}

async function sendAll (stream, data) {
  if (!stream.send(data)) {
    await stream.onDrain()
  }
}

// Reads exact amounts; made at once when a stream is there, because iteration misses an earlier FIN.
class Reader {
  constructor (stream) {
    this.chunks = stream[Symbol.asyncIterator]()
    this.rest = Buffer.alloc(0)
    this.advance()
  }

  advance () {
    this.next = this.chunks.next()
    // A reset between two reads shows at the next read; without this it would end the process.
    this.next.catch(() => {})
  }

  // At most `most` bytes, none at FIN.
  async some (most) {
    if (this.rest.length === 0) {
      const { value, done } = await this.next
      if (done) {
        return this.rest
      }
      this.advance()
      this.rest = Buffer.from(value.subarray())
    }
    const data = this.rest.subarray(0, most)
    this.rest = this.rest.subarray(data.length)
    return data
  }

  async * exactly (size) {
    while (size > 0) {
      const data = await this.some(size)
      if (data.length === 0) {
        throw new Error(`FIN with ${size} bytes still to come`)
      }
      size -= data.length
      yield data
    }
  }

  async bytes (size) {
    const parts = []
    for await (const data of this.exactly(size)) {
      parts.push(data)
    }
    return Buffer.concat(parts)
  }

  async hash (size) {
    const hash = createHash('sha256')
    for await (const data of this.exactly(size)) {
      hash.update(data)
    }
    return hash.digest()
  }

  async header () {
    const head = await this.bytes(HEADER)
    return { finFirst: head[0] === 1, size: Number(head.readBigUInt64BE(1)) }
  }

  async fin () {
    if ((await this.some(1)).length !== 0) {
      throw new Error('data where FIN should be')
    }
  }
}

function header (finFirst, size) {
  const head = Buffer.alloc(HEADER)
  head[0] = finFirst ? 1 : 0
  head.writeBigUInt64BE(BigInt(size), 1)
  return head
}

async function serveEcho (stream, reader) {
  const { finFirst, size } = await reader.header()
  for await (const data of reader.exactly(size)) {
    await sendAll(stream, data)
  }
  if (finFirst) {
    await reader.fin()
  }
}

async function serveSink (stream, reader) {
  const { finFirst, size } = await reader.header()
  const digest = await reader.hash(size)
  if (finFirst) {
    await reader.fin()
  }
  await sendAll(stream, digest)
}

async function serveSource (stream, reader) {
  const { finFirst, size } = await reader.header()
  if (finFirst) {
    await reader.fin()
  }
  await sendPattern(stream, size)
}

async function start () {
  const node = await createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify(), ping: ping() }
  })
  const many = { maxInboundStreams: 1024, maxOutboundStreams: 1024 }
  for (const [protocol, serve] of [[ECHO, serveEcho], [SINK, serveSink], [SOURCE, serveSource]]) {
    await node.handle(protocol, guarded(serve), { maxInboundStreams: 1024 })
  }
  return node
}

function guarded (serve) {
  return async stream => {
    try {
      await serve(stream, new Reader(stream))
      await stream.close()
    } catch (error) {
      console.error(`${stream.protocol}: ${error.stack}`)
      stream.abort(error)
    }
  }
}

async function pingMany (node, address, count) {
  for (let i = 0; i < count; i++) {
    console.log(`pinged ${address} in ${await node.services.ping.ping(multiaddr(address))}ms`)
  }
}

async function transfer (node, mode, address, size, finFirst) {
  const protocol = { echo: ECHO, send: SINK, receive: SOURCE }[mode]
  const stream = await node.dialProtocol(multiaddr(address), protocol)
  const reader = new Reader(stream)
  const started = process.hrtime.bigint()
  await sendAll(stream, header(finFirst, size))
  const answer = mode === 'send' ? reader.bytes(32) : reader.hash(size)
  if (mode !== 'receive') {
    await sendPattern(stream, size)
  }
  if (finFirst) {
    await stream.close()
  }
  const got = await answer
  if (finFirst) {
    await reader.fin()
  } else {
    await stream.close()
  }
  const seconds = Number(process.hrtime.bigint() - started) / 1e9
  const expected = patternHash(size)
  if (!got.equals(expected)) {
    throw new Error(`${mode}: got ${got.toString('hex')}, expected ${expected.toString('hex')}`)
  }
  console.log(`${mode} ${size} bytes in ${seconds.toFixed(3)} s sha256 ${expected.toString('hex')}`)
}

const [mode, address, number, lateFin] = process.argv.slice(2)
const node = await start()
if (mode === 'listen') {
  for (const own of node.getMultiaddrs()) {
    console.log(`libp2p node address: ${own}`)
  }
  process.on('SIGTERM', () => process.exit(143))
} else {
  if (mode === 'ping') {
    await pingMany(node, address, Number(number))
  } else {
    for (const each of mode.split(',')) {
      for (const size of number.split(',')) {
        await transfer(node, each, address, Number(size), lateFin !== '--late-fin')
      }
    }
  }
  await node.stop()
  process.exit(0)
}
