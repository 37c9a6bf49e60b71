package admin

import "time"

// certificateNear is how long before its end a certificate is warned of; the
// alert rule in deploy/ has the same.
const certificateNear = 30 * 24 * time.Hour

// warnOfCertificates is about certificates that end soon or have ended, each CA
// once however many nodes trust it.
func warnOfCertificates(out *warner, now time.Time, members []Member) {
	authorities := map[string]bool{}
	for _, member := range members {
		for _, end := range member.Certificates {
			left := end.NotAfter.Sub(now)
			if left > certificateNear {
				continue
			}
			ends := "ends"
			if left <= 0 {
				ends = "has ended"
			}
			when := end.NotAfter.UTC().Format(time.RFC3339)
			switch end.Use {
			case "ca":
				if !authorities[end.Name] {
					authorities[end.Name] = true
					out.warn("certificate", end.Name, "the CA %q of the cluster %s (%s): put another in its place, docs/operate.md says how", end.Name, ends, when)
				}
			case "node":
				out.warn("certificate", member.Name, "the certificate of node %s %s (%s), then nothing connects to it any more: `holdfast tls issue node %s` makes another", member.Name, ends, when, member.Name)
			case "smtp":
				out.warn("certificate", member.Name, "the certificate that node %s shows to SMTP clients %s (%s)", member.Name, ends, when)
			}
		}
	}
}
