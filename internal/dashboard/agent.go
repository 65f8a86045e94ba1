package dashboard

import "strings"

// maxProgram bounds the short form of a user agent, in characters.
const maxProgram = 40

// program is the short form of a user agent: "Chrome on Linux", "curl". Every
// browser claims to be several others, so that the order counts.
func program(agent string) string {
	if !strings.HasPrefix(agent, "Mozilla/") {
		name, _, _ := strings.Cut(agent, "/")
		name, _, _ = strings.Cut(name, " (")
		switch name {
		case "Go-http-client":
			name = "Go client"
		case "keystile-go":
			name = "Keystile's Go client"
		case "python-requests", "python-httpx", "Python-urllib", "aiohttp":
			name = "Python client"
		case "node", "node-fetch", "undici", "axios":
			name = "Node.js client"
		case "okhttp", "Java-http-client", "Apache-HttpClient":
			name = "Java client"
		}
		if cut := []rune(name); len(cut) > maxProgram {
			name = string(cut[:maxProgram-1]) + "…"
		}
		return name
	}
	browser := firstOf(agent, "Edg", "Edge", "OPR/", "Opera", "Firefox/", "Firefox", "FxiOS/", "Firefox", "SamsungBrowser/", "Samsung Internet",
		"Chrome/", "Chrome", "CriOS/", "Chrome", "Safari/", "Safari")
	system := firstOf(agent, "Windows", "Windows", "Android", "Android", "iPhone", "iOS", "iPad", "iOS", "Mac OS X", "macOS", "CrOS", "ChromeOS", "Linux", "Linux")
	switch {
	case browser == "":
		return "A browser"
	case system == "":
		return browser
	}
	return browser + " on " + system
}

// firstOf returns the name of the first mark that the text has, of pairs of
// mark and name.
func firstOf(text string, pairs ...string) string {
	for i := 0; i < len(pairs); i += 2 {
		if strings.Contains(text, pairs[i]) {
			return pairs[i+1]
		}
	}
	return ""
}
