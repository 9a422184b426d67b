// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/unread"
)

// A table may belong to a netlink socket: nobody else can change or remove it then,
// `flush ruleset` leaves it out, and it is an orphan when the last process has closed
// the socket. With persist it stays as it is even so, until somebody claims it, by
// naming both flags. Neither flag can be given to a table that lacks persist, nor taken
// from one that has it: such tables are replaced.

// Flags of linux/netfilter/nf_tables.h; owner is there since Linux 5.12, persist since 6.9.
const nftTablePersist = 4 // NFT_TABLE_F_PERSIST

// Socket is the socket to which the tables belong, for another process to keep
// open, and the caller to close; nil if they belong to nobody.
func (t *Table) Socket() (*os.File, error) {
	if t.flags&nftTableOwner == 0 {
		return nil, nil
	}
	return duplicate(t.sock.raw)
}

// openOwner opens the socket that changes the tables.
func openOwner(opts Options) (*socket, error) {
	own, err := openSocket(opts.NetNS)
	if err != nil || opts.Socket == nil {
		return own, err
	}
	defer own.close()
	kept, err := takeOver(opts.Socket)
	if err != nil {
		return nil, err
	}
	here, herr := own.cookie()
	there, terr := kept.cookie()
	err = errors.Join(herr, terr)
	if err == nil && here != there {
		err = errors.New("the socket of an earlier agent is of another network namespace: give this agent a run directory of its own, or end what keeps the socket")
	}
	if err != nil {
		kept.close()
		return nil, err
	}
	return kept, nil
}

// takeOver goes on with a socket that another process had. It reads what that has
// left unread: an answer would be taken for one to us, and an unfinished
// dump keeps the kernel from beginning another.
func takeOver(file *os.File) (*socket, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	err = raw.Control(func(fd uintptr) { unread.Discard(int(fd)) })
	if err != nil {
		return nil, err
	}
	return newSocket(file)
}

// cookie tells network namespaces apart.
func (s *socket) cookie() (cookie uint64, err error) {
	cerr := s.raw.Control(func(fd uintptr) { cookie, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE) })
	return cookie, errors.Join(cerr, err)
}

// tableFlags are those that one of our tables has; 0 if it is not there.
func (s *socket) tableFlags(table byte) (flags uint32, err error) {
	err = s.dump(table, unix.NFT_MSG_GETTABLE, 0, ours, func(data []byte) {
		attrs(data, func(typ uint16, v []byte) bool {
			if typ == unix.NFTA_TABLE_FLAGS {
				flags = beU32(v)
			}
			return true
		})
	})
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		return 0, fmt.Errorf("read table %s: %w", tableWord(table), err)
	}
	return flags, nil
}

// probeOwner makes a table that nobody has, with an owner.
func (m *msgs) probeOwner() {
	m.begin(featOwners, inetTable, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
	m.data.str(tableAttr, TableName+"-probe")
	m.data.u32(unix.NFTA_TABLE_FLAGS, nftTableOwner|nftTablePersist)
	m.end()
}
