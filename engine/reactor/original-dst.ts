// The destination of a connection before netfilter's REDIRECT, from conntrack.
import {
  IP6T_SO_ORIGINAL_DST,
  SOL_IP,
  SOL_IPV6,
  SO_ORIGINAL_DST,
  getsockopt,
} from '../native/libc.ts';
import {
  readSockaddr,
  resetSockaddrLength,
  sockaddr,
  sockaddrLength,
  type SocketAddress,
} from './socket-address.ts';

/** SO_ORIGINAL_DST, then the IPv6 variant; undefined when conntrack knows no redirect. */
export function readOriginalDst(fd: number): SocketAddress | undefined {
  resetSockaddrLength();
  if (getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, sockaddr, sockaddrLength) === 0) {
    return readSockaddr();
  }
  resetSockaddrLength();
  if (getsockopt(fd, SOL_IPV6, IP6T_SO_ORIGINAL_DST, sockaddr, sockaddrLength) === 0) {
    return readSockaddr();
  }
  return undefined;
}
