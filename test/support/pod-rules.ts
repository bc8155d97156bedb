// The redirection of an enrolled pod, reduced to what TCP tests need. What the node agent writes is in cni/rules,
// and is tested there.

/** For `nft -f -` in the pod's namespace; needs the ip rule for mark 0x111 beside it. */
export const POD_RULES = `
table inet test {
  chain mangle-pre { type filter hook prerouting priority -150;
    meta mark & 0xfff == 0x539 ct mark set 0x111
  }
  chain mangle-out { type route hook output priority -150;
    ct mark & 0xfff == 0x111 meta mark set ct mark
  }
  chain nat-pre { type nat hook prerouting priority -100;
    ip daddr != 127.0.0.1 tcp dport != 15008 meta mark & 0xfff != 0x539 redirect to :15006
  }
  chain nat-out { type nat hook output priority -100;
    meta l4proto tcp meta mark & 0xfff == 0x111 accept
    ip daddr != 127.0.0.1 oifname "lo" accept
    ip daddr != 127.0.0.1 meta l4proto tcp meta mark & 0xfff != 0x539 redirect to :15001
  }
}
`;

/** The user of a dedicated proxy that has no rights; its packets carry no mark. */
export const DEDICATED_USER = 65_534;

/** What a dedicated proxy needs: what the pod sends, but for that of the proxy's user. */
export const DEDICATED_RULES = `
table inet test {
  chain nat-out { type nat hook output priority -100;
    oifname "lo" accept
    meta l4proto tcp meta skuid != ${DEDICATED_USER} redirect to :15001
  }
}
`;
