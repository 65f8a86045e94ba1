package server

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// certificateAge is how long a certificate is used before the files are
// looked at again, so that a renewed one needs no restart. One look at a file
// in that time costs nothing beside the handshakes.
const certificateAge = 5 * time.Second

// certificates serves the certificate in two files and follows their renewal.
func certificates(certFile, keyFile string) (*tls.Config, error) {
	p := &pair{certFile: certFile, keyFile: keyFile}
	if err := p.load(); err != nil {
		return nil, fmt.Errorf("cannot use --tls-cert and --tls-key: %w", err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return p.current(), nil
		},
	}, nil
}

type pair struct {
	certFile, keyFile string

	mu       sync.Mutex
	cert     *tls.Certificate
	looked   time.Time
	modified time.Time
}

func (p *pair) load() error {
	info, err := os.Stat(p.certFile)
	if err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return err
	}
	p.cert, p.modified, p.looked = &cert, info.ModTime(), time.Now()
	return nil
}

// current is the newest certificate that could be read. Files that are being
// replaced just now leave the old one in use.
func (p *pair) current() *tls.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.looked) > certificateAge {
		p.looked = time.Now()
		if info, err := os.Stat(p.certFile); err == nil && !info.ModTime().Equal(p.modified) {
			_ = p.load()
		}
	}
	return p.cert
}
