// What the page says, in English and Chinese; and numbers as each writes them.
const KEPT = "rehost-language";
const liked = (navigator.languages || [navigator.language]).find((each) => /^(zh|en)/i.test(each)) || "en";
export const language = localStorage.getItem(KEPT) || (/^zh/i.test(liked) ? "zh" : "en");
const CHINESE = language === "zh";

export function switchLanguage() {
  localStorage.setItem(KEPT, CHINESE ? "en" : "zh");
  location.reload();
}

const TEXTS = {
  overview: ["Overview", "总览"], gallery: ["Gallery", "图库"], api: ["API", "接口"], other: ["中文", "English"],
  shows: ["of the pictures show", "的图片能正常显示"], of: ["of", "/"], links: ["{0} link|{0} links", "{0} 条链接"],
  held: ["held", "已保存"], wanted: ["wanted", "待获取"], leased: ["in work", "处理中"], deferred: ["deferred", "稍后重试"], refused: ["refused", "无法获取"],
  live: ["Right now", "当前任务"], running: ["A run is going on", "任务进行中"], idle: ["No run is going on", "当前没有任务"],
  rate: ["links per second", "条/秒"], speed: ["per second", "每秒"], left: ["to go", "剩余"],
  nextat: ["Next attempt", "下次尝试"], run: ["run", "任务"], 
  due: ["due now", "已到期"], next: ["next attempt in {0}", "下次尝试：{0}后"], away: ["The server cannot answer just now; the page tries again.", "服务器暂时无法应答，页面会自动重试。"],
  disk: ["Disk", "磁盘"], taken: ["taken by copies", "副本占用"], free: ["free", "可用"], expected: ["About {0} still to come", "预计还需约 {0}"],
  full: ["Full in {0}", "预计 {0}后写满"], never: ["Years away from full at this week's pace", "按本周速度，多年内不会写满"], growthless: ["Nothing came this week", "本周没有新增"],
  why: ["Why pictures are missing", "缺图原因"], none: ["Every picture is held.", "所有图片均已保存。"], nofailure: ["Nothing has failed.", "没有失败的链接。"],
  origins: ["Origins", "源站"], origin: ["Origin", "源站"], within: ["in {0}", "{0}后"], rule: ["Shown to it", "所需 Referer"], state: ["State", "状态"],
  paused: ["paused for", "暂停"], calm: ["answers", "正常"], untried: ["unproven", "未验证"], decoys: ["notices known: {0}", "已识别占位图：{0}"], originless: ["of no origin", "无源站"],
  "rule-none": ["no Referer", "不带 Referer"], "rule-origin": ["its own address", "主机自身地址"], "rule-site": ["its site's address", "主站地址"], "rule-page": ["the row's page", "来源页面"],
  runs: ["Runs", "任务记录"], began: ["Began", "开始"], took: ["Took", "用时"], received: ["Received", "接收"], failed: ["failed", "失败"],
  killed: ["ended without a word", "异常结束"], interrupted: ["interrupted", "被中断"], undone: ["undone", "已撤销"], goingon: ["going on", "进行中"],
  search: ["Key, title or link", "编号、标题或链接"], anystate: ["Any state", "全部状态"], anyreason: ["Any reason", "全部原因"], anyorigin: ["Any origin", "全部源站"],
  more: ["Show more", "显示更多"], nothing: ["Nothing fits. Loosen a filter.", "没有符合条件的结果，请放宽筛选。"], empty: ["Nothing noted yet: start a run with `rehost run`.", "尚无记录：请先执行 rehost run。"],
  link: ["Link", "原始链接"], page: ["Page", "来源页面"], local: ["Local URL", "本地地址"], final: ["Came from", "实际来源"], digest: ["SHA-256", "SHA-256"], size: ["Size", "大小"],
  dimensions: ["Dimensions", "尺寸"], visited: ["Visited", "最近访问"], saved: ["Held since", "保存时间"], evidence: ["Seen", "依据"], row: ["Row", "记录"],
  history: ["History", "历史"], wrote: ["Written into the row", "回写到记录"], times: ["{0} times in a row, since {1}", "连续 {0} 次，始于 {1}"],
  "end-held": ["A whole picture came", "已取得完整图片"], "end-adopted": ["Already in the store, proven and kept", "存储中已有，验证后保留"], "end-unchanged": ["Not changed at its origin", "源站未变化"], "end-overtaken": ["A picture came, but the row had another link by then", "已取得图片，但该行链接已变更"], "end-deferred": ["No picture yet", "暂未取得"], "end-refused": ["No picture", "无法获取"], close: ["Close", "关闭"], open: ["Open the copy", "打开副本"], cando: ["What can be done", "可以怎么做"], nohistory: ["Nothing yet.", "暂无。"],
  token: ["Token", "令牌"], unlock: ["Unlock actions", "解锁操作"], lock: ["Lock actions", "锁定操作"], readonly: ["Read only: this server has no REHOST_TOKEN.", "只读：服务器未设置 REHOST_TOKEN。"],
  tokenask: ["The operator's token (REHOST_TOKEN). It stays in this tab.", "管理员令牌（REHOST_TOKEN），仅保存在此标签页。"], save: ["Unlock", "解锁"],
  wrongtoken: ["That is not the operator's token. Unlock actions with the right one.", "令牌不正确，请用正确的令牌重新解锁。"],
  retry: ["Retry", "重试"], retrythese: ["Retry these", "重试这些"], alike: ["Same picture in", "相同图片"], retryall: ["Retry all", "全部重试"], pause: ["Pause a day", "暂停一天"], resume: ["Resume", "恢复"], start: ["Start a run", "开始任务"],
  did: ["Done: {0} due now.", "完成：{0} 条已到期待取。"], didpause: ["{0} is left alone.", "已暂停 {0}。"], didresume: ["{0} may be asked again.", "已恢复 {0}。"], didstart: ["The run is on its way.", "任务已开始。"],
  unshown: ["Your browser does not show this format.", "浏览器不支持显示此格式。"], nocopy: ["No copy yet", "尚无副本"], source: ["Source", "数据源"],
};

// Reason: what it means, and what can be done; for people who never read a log.
const REASONS = {
  "not-a-url": [["The cell holds no web address", "单元格里不是网址"], ["Correct the link in the row; the next run takes the new one.", "修正该行的链接，下次任务会自动处理。"]],
  "address-refused": [["The address is not public", "地址不是公网地址"], ["If it is yours, allow its network: IMAGE_ALLOW_NETWORKS.", "若是自有网络，请在 IMAGE_ALLOW_NETWORKS 中放行。"]],
  "port-refused": [["A port that browsers refuse", "端口被浏览器禁止"], ["Correct the link in the row.", "修正该行的链接。"]],
  "robots-refused": [["The site's robots rules ask not to", "站点 robots 规则不允许"], ["Ask the site, or decide for it in rehost.toml.", "联系站点，或在 rehost.toml 中为该主机单独设定。"]],
  unresolved: [["The host name does not exist", "域名无法解析"], ["Often passes; else look for the picture elsewhere.", "通常是暂时的；否则需另寻图片。"]],
  unreachable: [["No connection could be made", "无法建立连接"], ["It is tried again by itself. Check this machine's network if all hosts fail.", "会自动重试；若全部主机失败，请检查本机网络。"]],
  "tls-failed": [["The certificate is not acceptable", "证书无法接受"], ["It is tried again by itself; the site must renew its certificate.", "会自动重试；需站点更新证书。"]],
  "timed-out": [["It took too long", "超时"], ["It is tried again by itself; raise IMAGE_DOWNLOAD_TIMEOUT for slow hosts.", "会自动重试；慢主机可调大 IMAGE_DOWNLOAD_TIMEOUT。"]],
  gone: [["The picture is gone", "图片已被删除"], ["Put another link into the row; the next run takes it.", "在该行换上新的链接，下次任务会自动处理。"]],
  "hotlink-refused": [["The host refuses us", "主机拒绝访问"], ["Lay down what it wants to see (Referer, cookies) in rehost.toml, then retry.", "在 rehost.toml 中指定所需的 Referer 或 Cookie，再重试。"]],
  throttled: [["The host asks to come back later", "主机要求稍后再来"], ["Nothing: rehost slows down and comes back.", "无需处理：会自动放慢并重试。"]],
  "origin-error": [["The host is failing", "主机出错"], ["Nothing: it is tried again by itself.", "无需处理：会自动重试。"]],
  "unexpected-status": [["An answer that is no picture", "应答不是图片"], ["Open the link to see what it says.", "打开链接查看其内容。"]],
  "too-many-redirects": [["Redirected in circles", "重定向过多"], ["Correct the link in the row.", "修正该行的链接。"]],
  malformed: [["A broken answer", "应答格式错误"], ["It is tried again by itself.", "会自动重试。"]],
  truncated: [["The picture is cut short", "图片不完整"], ["It is tried again; if the file itself is damaged, replace the link.", "会重试；若源文件已损坏，请更换链接。"]],
  "too-large": [["Larger than the limits", "超出大小限制"], ["Raise IMAGE_MAX_BYTES or IMAGE_MAX_PIXELS, then retry.", "调大 IMAGE_MAX_BYTES 或 IMAGE_MAX_PIXELS 后重试。"]],
  empty: [["An empty file", "文件为空"], ["Replace the link in the row.", "更换该行的链接。"]],
  "not-an-image": [["Not a picture at all", "内容不是图片"], ["Open the link to see what it is, and replace it.", "打开链接查看内容并更换。"]],
  "unsupported-format": [["A format that cannot be proven", "暂不支持的格式"], ["A HEIC needs the extra rehost[heic]; else replace the link.", "HEIC 需安装 rehost[heic]；其他格式请更换链接。"]],
  svg: [["An SVG, which can run scripts", "SVG 可能含脚本，不予保存"], ["Replace the link by one to a bitmap.", "换成位图链接。"]],
  corrupt: [["The picture is damaged", "图片已损坏"], ["Replace the link in the row.", "更换该行的链接。"]],
  decoy: [["A notice in place of the picture", "返回的是占位图"], ["Lay down what the host wants to see in rehost.toml, or replace the link.", "在 rehost.toml 中指定该主机所需的请求头，或更换链接。"]],
  bug: [["rehost itself failed", "程序内部错误"], ["The log has the details; please report it.", "日志中有详情，请反馈。"]],
};

const pick = (pair) => pair[CHINESE ? 1 : 0];
export const text = (name, ...values) => values.reduce((words, value, index) => words.replace(`{${index}}`, value), pick(TEXTS[name]));
// A number of things: in English one form for one, another for more.
export function plural(name, count) {
  const forms = pick(TEXTS[name]).split("|");
  return forms[count === 1 ? 0 : forms.length - 1].replace("{0}", number(count));
}

export const reason = (name) => (REASONS[name] ? pick(REASONS[name][0]) : name);
export const advice = (name) => (REASONS[name] ? pick(REASONS[name][1]) : "");
export const reasonNames = Object.keys(REASONS);
export const ruleText = (name) => (TEXTS[`rule-${name}`] ? text(`rule-${name}`) : name);

const LOCALE = CHINESE ? "zh-CN" : "en-GB";
const plain = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 1 });
export const number = (value) => (value < 10 && value % 1 ? fine : plain).format(value);
export const percent = (part, whole) => `${(whole ? Math.floor((1000 * part) / whole) / 10 : 0).toFixed(1)}%`;
const dates = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "short" });
const times = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const clock = (seconds) => times.format(new Date(seconds * 1000));
export const moment = (iso) => (iso ? dates.format(new Date(iso)) : "–");

export function bytes(size) {
  const units = ["B", "KB", "MB", "GB", "TB", "PB"];
  let index = 0;
  while (size >= 1000 && index < units.length - 1) { size /= 1000; index += 1; }
  return `${(index && size < 100 ? fine : plain).format(size)} ${units[index]}`;
}

export function span(seconds) {
  const steps = [[86400, "day", "天"], [3600, "h", "小时"], [60, "min", "分钟"], [1, "s", "秒"]];
  const [length, english, chinese] = steps.find(([each]) => seconds >= each * (each === 86400 ? 2 : 1)) || steps[3];
  const count = seconds < 10 && length === 1 ? fine.format(seconds) : plain.format(seconds / length);
  return CHINESE ? `${count} ${chinese}` : `${count} ${english === "day" ? "days" : english}`;
}
