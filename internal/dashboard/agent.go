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
	browser := firstOf(agent, []mark{{"Edg", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"},
		{"SamsungBrowser/", "Samsung Internet"}, {"Chrome/", "Chrome"}, {"CriOS/", "Chrome"}, {"Safari/", "Safari"}})
	system := firstOf(agent, []mark{{"Windows", "Windows"}, {"Android", "Android"}, {"iPhone", "iOS"}, {"iPad", "iOS"},
		{"Mac OS X", "macOS"}, {"CrOS", "ChromeOS"}, {"Linux", "Linux"}})
	switch {
	case browser == "":
		return "A browser"
	case system == "":
		return browser
	}
	return browser + " on " + system
}

// mark is a part of a user agent, and what it tells.
type mark struct{ part, tells string }

// firstOf returns what the first of the marks that the text has tells.
func firstOf(text string, marks []mark) string {
	for _, m := range marks {
		if strings.Contains(text, m.part) {
			return m.tells
		}
	}
	return ""
}
