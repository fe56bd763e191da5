// The page's texts in English and Chinese, and numbers as each language writes them.
const KEPT = "rehost-language";
const liked = (navigator.languages || [navigator.language]).find((each) => /^(zh|en)/i.test(each)) || "en";
export const language = localStorage.getItem(KEPT) || (/^zh/i.test(liked) ? "zh" : "en");
const CHINESE = language === "zh";

export function switchLanguage() {
  localStorage.setItem(KEPT, CHINESE ? "en" : "zh");
  location.reload();
}

const TEXTS = {
  overview: ["Overview", "总览"], gallery: ["Gallery", "图库"], api: ["API", "接口文档"], other: ["中文", "English"],
  shows: ["of the pictures are displayed", "的图片能正常显示"], of: ["of", "/"], links: ["{0} link|{0} links", "{0} 条链接"],
  held: ["held", "已保存"], wanted: ["wanted", "待获取"], leased: ["in progress", "处理中"], deferred: ["deferred", "稍后重试"], refused: ["refused", "无法获取"],
  live: ["Current run", "当前任务"], running: ["A run is in progress", "任务运行中"], idle: ["No run is in progress", "当前没有任务"],
  rate: ["links per second", "条/秒"], speed: ["download speed", "下载速度"], left: ["left", "剩余时间"], linksleft: ["links left", "剩余链接数"],
  nextat: ["Next attempt", "下次尝试"], run: ["run", "任务"],
  due: ["due now", "待处理"], next: ["next attempt in {0}", "{0}后再次尝试"], away: ["The server cannot respond at the moment; the page will try again.", "服务器暂时无法响应，页面会自动重试。"],
  disk: ["Disk", "磁盘"], bucket: ["Bucket", "存储桶"], limitless: ["A bucket has no limit that rehost could know", "存储桶的容量上限无从得知"], taken: ["used by copies", "副本占用"], free: ["free", "可用"], expected: ["About {0} still to come", "预计还需 {0}"],
  full: ["Full in {0}", "预计 {0}后写满"], never: ["At this week's rate, the disk will last for years", "按本周的增长速度，数年内不会写满"], growthless: ["Nothing was added this week", "本周没有新增"],
  why: ["Why pictures are missing", "缺图原因"], none: ["Every picture is held.", "所有图片均已保存。"], nofailure: ["Nothing has failed.", "没有失败的链接。"],
  origins: ["Origins", "源站"], origin: ["Origin", "源站"], within: ["in {0}", "{0}后"], rule: ["Referer", "Referer 规则"], state: ["State", "状态"],
  paused: ["paused for another", "已暂停，剩余"], calm: ["works", "正常"], untried: ["not verified yet", "尚未验证"], decoys: ["known decoys: {0}", "已识别的占位图：{0}"], originless: ["not a valid URL", "无有效 URL"],
  "rule-none": ["no Referer", "不带 Referer"], "rule-origin": ["the origin's own address", "源站自身地址"], "rule-site": ["the site's address", "所属网站地址"], "rule-page": ["the row's page", "来源页面"],
  runs: ["Runs", "任务记录"], began: ["Started", "开始时间"], took: ["Duration", "用时"], received: ["Received", "接收"], failed: ["failed", "失败"],
  killed: ["no end recorded", "无结束记录"], stopped: ["stopped by an error", "因错误停止"], interrupted: ["interrupted", "已中断"], undone: ["undone", "已撤销"], goingon: ["in progress", "进行中"],
  search: ["Key, title or link", "主键、标题或链接"], anystate: ["Any state", "全部状态"], anyreason: ["Any reason", "全部原因"], anyorigin: ["Any origin", "全部源站"],
  more: ["Show more", "显示更多"], morehosts: ["Load more hosts ({0} in all)", "加载更多主机（共 {0} 个）"], nothing: ["No matches. Remove a filter.", "没有符合条件的结果，请放宽筛选条件。"], empty: ["No links yet: start with `rehost run`.", "暂无链接：请先执行 rehost run。"],
  link: ["Link", "原始链接"], page: ["Page", "来源页面"], local: ["Local URL", "本地 URL"], final: ["Redirected to", "重定向至"], digest: ["SHA-256", "SHA-256"], size: ["Size", "大小"],
  dimensions: ["Dimensions", "尺寸"], visited: ["Last visit", "最近访问"], saved: ["Held since", "保存时间"], evidence: ["Evidence", "详情"], row: ["Row", "数据行"],
  history: ["History", "历史"], wrote: ["Row updated", "已写回数据行"], times: ["{0} times in a row, since {1}", "自 {1} 起连续 {0} 次"],
  "end-held": ["Picture stored", "已保存完整图片"], "end-adopted": ["Already in the store: verified and kept", "存储中已有该文件，校验通过后保留"], "end-unchanged": ["Unchanged at the origin", "源站图片未变化"], "end-overtaken": ["Picture received, but the row's link had changed meanwhile", "已获取图片，但该行的链接在此期间已变更"], "end-deferred": ["No picture yet", "暂未获取到图片"], "end-refused": ["No picture", "无法获取"], close: ["Close", "关闭"], open: ["Open the copy", "打开副本"], cando: ["What you can do: {0}", "处理建议：{0}"], nohistory: ["Nothing yet.", "暂无。"],
  token: ["Token", "令牌"], unlock: ["Unlock actions", "解锁操作"], lock: ["Lock actions", "锁定操作"], readonly: ["Read-only: this server has no REHOST_TOKEN.", "只读：服务器未设置 REHOST_TOKEN。"],
  tokenask: ["The operator's token (REHOST_TOKEN). It stays in this tab.", "管理员令牌（REHOST_TOKEN），仅保存在当前标签页。"], save: ["Unlock", "解锁"],
  wrongtoken: ["This is not the operator's token. Unlock actions with the right one.", "令牌不正确，请使用正确的令牌重新解锁。"],
  retry: ["Retry", "重试"], retrythese: ["Retry these", "重试这些"], alike: ["Same picture as in", "使用相同图片的行"], retryall: ["Retry all", "全部重试"], pause: ["Pause for a day", "暂停一天"], resume: ["Resume", "恢复"], start: ["Start a run", "开始任务"], stop: ["Stop the run", "停止任务"], stopping: ["The run is ending", "任务正在结束"],
  did: ["Done: {0} due now.", "完成：{0} 条链接可立即重试。"], didpause: ["{0} is paused.", "已暂停 {0}。"], didresume: ["{0} is no longer paused.", "已恢复 {0}。"], didstart: ["The run has started.", "任务已开始。"], didstop: ["The run ends within seconds.", "任务将在数秒内结束。"],
  undisplayed: ["{0} are held, but browsers do not display their format", "{0} 张已保存，但浏览器不支持显示其格式"],
  damaged: ["{0} are whole, though their files are damaged elsewhere", "{0} 张画面完整，但文件的其他部分有损坏"],
  damage: ["Damage outside the picture", "画面以外的损坏"],
  upkeep: ["Upkeep", "维护"], copies: ["{0} copy|{0} copies", "{0} 个副本"], nocopies: ["No copies are held yet.", "尚未保存任何副本。"],
  provenlately: ["of the copies were read and found right within 90 days", "的副本在 90 天内校验无误"], neverread: ["{0} never read|{0} never read", "{0} 个从未校验"], oldestread: ["the oldest check is of {0}", "最早一次校验：{0}"],
  faultsopen: ["{0} fault waits for repair|{0} faults wait for repair", "{0} 处问题待修复"], faultless: ["No open faults.", "没有待修复的问题。"], freezesopen: ["{0} origin waits for your decision|{0} origins wait for your decision", "{0} 个源站等待你的决定"],
  verification: ["Verification", "校验"], nopass: ["The copies were not verified yet. This reads them and compares their digests:", "尚未校验过副本。此命令会读取副本并比对摘要："], passended: ["The last pass began {0} and ended {1}.", "上次校验：{0} 开始，{1} 完成。"], passgoing: ["A pass began {0} and has not reached the end; the next call goes on there.", "本次校验始于 {0}，尚未完成；下次运行会从中断处继续。"],
  passfar: ["{0} of the copies examined", "已检查 {0} 的副本"], copiesread: ["copies", "副本"], bytesread: ["read", "已读取"], faultsfound: ["faults", "问题"],
  trash: ["Trash and rescue", "回收站与找回"], intrash: ["in the trash", "回收站占用"], rescuedcopies: ["rescued copies", "找回的副本"], trashempty: ["The trash is empty.", "回收站为空。"],
  "trash-replaced": ["Replaced: {0} files, {1}, since {2}; `rehost prune` deletes each after 30 days.", "被替换：{0} 个文件，{1}，最早于 {2} 移入；30 天后由 rehost prune 清除。"], "trash-removed": ["Removed: {0} files, {1}, since {2}; `rehost prune` deletes each after 7 days.", "被移除：{0} 个文件，{1}，最早于 {2} 移入；7 天后由 rehost prune 清除。"],
  space: ["Space", "空间占用"], aday: ["a day, lately", "近期日均新增"], duplicates: ["{0} have the bytes of another one ({1}).", "{0}与其他副本内容相同（{1}）。"],
  frozenorigin: ["{0} is frozen", "源站 {0} 已冻结"], frozensince: ["{0} of {1} answers would have made the copies worse ({2}). The copies are as they were, and nothing more is replaced until you decide.", "{1} 个响应中有 {0} 个会使副本变差（{2}）。现有副本未受影响；在你作出决定之前，不会再替换任何副本。"],
  isheld: ["Held", "已保存的图片"], camein: ["What came instead", "源站现在返回的内容"], nopicture: ["no picture", "不是图片"], "worse-smaller": ["Less than half as large", "尺寸或大小不足原来的一半"], "worse-same-picture": ["The same picture for different links", "不同链接返回同一张图片"],
  decidehow: ["Decide on the command line, or unlock actions:", "请在命令行中决定，或先解锁操作："], or: ["or", "或"],
  "do-keep": ["Keep the held copies", "保留现有副本"], "do-accept": ["Accept what it sends", "接受新内容"], "means-keep": ["The copies stay for good, and refresh does not ask this origin any more.", "现有副本长期保留，不再向该源站请求更新。"], "means-accept": ["The next refresh replaces the copies with what the origin sends; the old ones lie in the trash for 30 days.", "下次更新时用源站返回的图片替换副本；旧副本在回收站中保留 30 天。"],
  "did-keep": ["The copies of {0} stay.", "已保留 {0} 的副本。"], "did-accept": ["The next refresh takes what {0} sends.", "下次更新将采用 {0} 返回的图片。"],
  decided: ["Decided origins", "已决定的源站"], decision: ["Decision", "决定"], "decision-keep": ["copies kept, not asked any more", "保留副本，不再请求"], "decision-accept": ["new pictures accepted", "接受新图片"], when: ["When", "时间"],
  findings: ["Findings", "发现的问题"], fault: ["Fault", "问题"], stillopen: ["Open", "待修复"], mendedones: ["Mended ({0})", "已修复（{0}）"], foundat: ["Found", "发现时间"], mendedat: ["Mended", "修复时间"], nofindings: ["Nothing is wrong that verification has seen.", "校验未发现问题。"], nomends: ["Nothing has been mended yet.", "暂无修复记录。"],
  takedowns: ["Takedowns", "下架"], takedownsay: ["Removes every copy of a picture for good, under whatever name it lies, and keeps it from coming back.", "彻底删除某张图片的所有副本（无论以何名称保存），并阻止其再次被获取。"], takewhat: ["URL, row key, store key, digest or origin", "URL、行主键、存储键、摘要或源站"], legal: ["for legal reasons (451)", "因法律原因（451）"], takedown: ["Take down", "下架"],
  removeforgood: ["Remove for good", "彻底删除"], wouldremove: ["This removes {0} ({1}), and clears the rows that lead there.", "将删除 {0}（{1}），并清空指向它们的行。"], wouldrefuse: ["It also refuses {0} without a copy.", "另有 {0}尚无副本，将不再获取。"], forgood: ["The files are deleted; this cannot be undone. Allowing it again only lets the next run fetch the pictures anew.", "文件将被删除，无法恢复；撤销下架后只能由下次运行重新获取。"],
  tookdown: ["Taken down: {0} removed, {1}.", "已下架：删除 {0}，{1}。"], takenback: ["taken back {0}", "已于 {0} 撤销"], tookeffect: ["{0} is answered", "返回 {0}"], goesontakedown: ["not complete yet", "尚未完成"], leftrows: ["{0} row could not be cleared|{0} rows could not be cleared", "{0} 行未能清空"],
  what: ["What", "对象"], removed: ["Removed", "已删除"], files: ["{0} file|{0} files", "{0} 个文件"], rowscleared: ["{0} row cleared|{0} rows cleared", "清空 {0} 行"], allow: ["Allow again", "撤销下架"], allowed: ["Allowed again; the next run visits {0}.", "已撤销下架；下次运行将访问 {0}。"], receipt: ["Receipt", "下架回执"], asjson: ["As JSON", "查看 JSON"],
  verified: ["Last verified", "最近校验"], rescued: ["Rescued from", "找回来源"],
  unshown: ["Your browser cannot show this format.", "浏览器不支持显示此格式。"], nocopy: ["No copy yet", "尚无副本"], source: ["Source", "数据源"],
};

// For each reason: what it means, and what to do; for people who do not read logs.
const REASONS = {
  "not-a-url": [["The cell does not contain a URL", "单元格内容不是 URL"], ["Correct the link in the row; the next run uses the new one.", "请修正该行的链接，下次运行会使用新链接。"]],
  "address-refused": [["The address is not public", "不是公网地址"], ["If the host is yours, add its network to IMAGE_ALLOW_NETWORKS.", "若是自有网络，请在 IMAGE_ALLOW_NETWORKS 中放行。"]],
  "port-refused": [["Browsers block this port", "浏览器禁止访问该端口"], ["Correct the link in the row.", "请修正该行的链接。"]],
  "key-too-long": [["The row's key is too long for a file's name", "该行的主键过长，无法作为文件名"], ["Shorten the row's key.", "请缩短该行的主键。"]],
  "robots-refused": [["The site's robots rules forbid it", "站点的 robots 规则不允许"], ["Ask the site, or set `robots` for this origin in rehost.toml.", "请联系站点，或在 rehost.toml 中为该源站单独设置 robots。"]],
  "taken-down": [["It was taken down", "已下架"], ["Nothing, unless it may be shown again: take the takedown back on the Upkeep page.", "无需处理；如可重新展示，请在“维护”页面撤销下架。"]],
  unresolved: [["The host name does not exist", "域名无法解析"], ["This often passes; otherwise look for the picture elsewhere.", "通常是暂时性问题；若持续出现，请另找图片来源。"]],
  unreachable: [["No connection could be made", "无法建立连接"], ["rehost retries. If all hosts fail, check this machine's network.", "会自动重试；若所有源站都失败，请检查本机网络。"]],
  "tls-failed": [["The certificate is not valid", "证书无效"], ["rehost retries; the site has to renew its certificate.", "会自动重试；需由站点更新证书。"]],
  "timed-out": [["It took too long", "请求超时"], ["rehost retries; raise IMAGE_DOWNLOAD_TIMEOUT for slow hosts.", "会自动重试；源站响应较慢时，可调大 IMAGE_DOWNLOAD_TIMEOUT。"]],
  gone: [["The picture is gone", "图片不存在或已被删除"], ["Replace the link in the row; the next run uses the new one.", "请更换该行的链接，下次运行会使用新链接。"]],
  "hotlink-refused": [["The host denies access", "源站拒绝访问"], ["Set the headers it requires (Referer, cookies) in rehost.toml, then retry.", "请在 rehost.toml 中设置所需的 Referer 或 Cookie，再重试。"]],
  throttled: [["The host asks us to come back later", "源站要求稍后再试"], ["Nothing; rehost slows down and tries again later.", "无需处理：会自动放慢并重试。"]],
  "origin-error": [["The host reported an error", "源站出错"], ["Nothing; rehost retries.", "无需处理：会自动重试。"]],
  "unexpected-status": [["The response is not a picture", "响应不是图片"], ["Open the link to see what it says.", "请打开链接查看其内容。"]],
  "too-many-redirects": [["Too many redirects", "重定向次数过多"], ["Correct the link in the row.", "请修正该行的链接。"]],
  malformed: [["The response is malformed", "响应格式错误"], ["Nothing; rehost retries.", "无需处理：会自动重试。"]],
  truncated: [["The picture is incomplete", "图片不完整"], ["rehost retries; if the file itself is damaged, replace the link.", "会自动重试；若源文件已损坏，请更换链接。"]],
  "too-large": [["Larger than the limits", "超出大小限制"], ["Raise IMAGE_MAX_BYTES or IMAGE_MAX_PIXELS, then retry.", "请调大 IMAGE_MAX_BYTES 或 IMAGE_MAX_PIXELS 后重试。"]],
  empty: [["The file is empty", "文件为空"], ["Replace the link in the row.", "请更换该行的链接。"]],
  "not-an-image": [["This is not a picture", "内容不是图片"], ["Open the link to see what it is, and replace it.", "请打开链接查看其内容，并更换链接。"]],
  "unsupported-format": [["This format cannot be verified", "无法校验此格式"], ["HEIC needs an extra (pip install '.[heic]'); for other formats replace the link.", "HEIC 需安装附加组件（pip install '.[heic]'）；其他格式请更换链接。"]],
  svg: [["SVG can contain scripts", "SVG 可能含有脚本，不予保存"], ["Replace the link with one to a bitmap.", "请换成位图链接。"]],
  corrupt: [["The picture is damaged", "图片已损坏"], ["Replace the link in the row.", "请更换该行的链接。"]],
  decoy: [["A placeholder instead of the picture", "返回的是占位图"], ["Set the headers it requires (Referer, cookies) in rehost.toml, or replace the link.", "请在 rehost.toml 中设置该源站所需的请求头，或更换链接。"]],
  "row-refused": [["The database refuses to write the row", "数据库拒绝写入该行"], ["The picture is stored. Look at the table's triggers, constraints, policies and locks, then retry: nothing is fetched again.", "图片已保存。请检查该表的触发器、约束、行级安全策略和锁，然后重试：不会重新下载。"]],
  "quota-reached": [["The storage quota is used up", "存储配额已用完"], ["Raise IMAGE_MAX_HOST_BYTES or IMAGE_MAX_SOURCE_BYTES, then retry.", "请调大 IMAGE_MAX_HOST_BYTES 或 IMAGE_MAX_SOURCE_BYTES 后重试。"]],
  "file-unreadable": [["A file at its place cannot be read", "副本位置上的文件无法读取"], ["Give the file to the user that runs rehost, or delete it, then retry.", "请让运行 rehost 的用户能读取该文件，或将其删除，然后重试。"]],
  "worker-died": [["A process of rehost ended while it visited this picture alone", "处理此图片的进程异常退出"], ["Nothing; it is tried again after a day, while nothing else is visited. Please report it if it happens again.", "无需处理：一天后单独重试；如再次发生，请反馈。"]],
  bug: [["rehost itself failed", "程序内部错误"], ["The log has the details; please report it.", "日志中有详情，请向 rehost 项目反馈。"]],
};

// For each kind of finding: what is wrong, and what cures it.
const REPAIR = ["`rehost verify --repair` brings the picture back.", "执行 rehost verify --repair 可恢复图片。"];
const FINDINGS = {
  missing: [["The file is missing", "文件丢失"], REPAIR],
  cut: [["The file ends early", "文件不完整"], REPAIR],
  altered: [["The bytes have changed", "文件内容被改动"], REPAIR],
  "wrong-type": [["The bytes are of another format than the name says", "文件格式与扩展名不符"], REPAIR],
  replaced: [["Another picture is in its place", "文件已被另一张图片替换"], REPAIR],
  unreadable: [["The file cannot be read", "文件无法读取"], ["Give the file to the user that runs rehost, or check the disk.", "请让运行 rehost 的用户能读取该文件，或检查磁盘。"]],
  "not-a-file": [["A folder or a device has the file's name", "该位置不是普通文件"], REPAIR],
  "other-url": [["The row holds another local URL", "数据行中的本地 URL 不同"], ["Correct the row if it was not meant to change.", "如非有意修改，请更正该行。"]],
  "cleared-row": [["The row holds no local URL", "数据行中的本地 URL 已被清空"], ["`rehost verify --repair` writes it again.", "执行 rehost verify --repair 可重新写入。"]],
  "row-without-copy": [["The row points at a file that is not there", "数据行指向不存在的文件"], ["`rehost verify --repair` clears what rehost wrote.", "执行 rehost verify --repair 可清除 rehost 写入的值。"]],
  "copy-without-row": [["The copy's row is gone", "副本对应的行已不存在"], ["`rehost prune --yes` moves the copy to the trash.", "执行 rehost prune --yes 可将其移入回收站。"]],
  "stray-file": [["A file that no row needs", "没有任何行使用的文件"], ["`rehost prune --yes` moves the file to the trash.", "执行 rehost prune --yes 可将其移入回收站。"]],
  "served-differently": [["The web server answers with something else", "Web 服务器返回的内容与副本不同"], ["Check the web server or CDN in front of the copies.", "请检查副本前端的 Web 服务器或 CDN。"]],
};
const MENDS = {
  "same-bytes-in-store": ["Mended with the same bytes from the store", "已用存储中的相同内容修复"],
  trash: ["Mended from the trash", "已从回收站恢复"],
  origin: ["Fetched again from the origin", "已从源站重新获取"],
  "origin-changed": ["The origin's new picture was stored", "已保存源站的新图片"],
  rescued: ["Rescued from elsewhere", "已从其他来源找回"],
  cleared: ["Nothing has the picture any more: the row was cleared", "图片已无处可寻，数据行已清空"],
  row: ["The local URL was written again", "已重新写入本地 URL"],
  otherwise: ["Found right again", "复查时已恢复正常"],
};

const pick = (pair) => pair[CHINESE ? 1 : 0];
export const text = (name, ...values) => values.reduce((words, value, index) => words.replace(`{${index}}`, value), pick(TEXTS[name]));
// A count with its noun: English has a form for one and another for more.
export function plural(name, count) {
  const forms = pick(TEXTS[name]).split("|");
  return forms[count === 1 ? 0 : forms.length - 1].replace("{0}", number(count));
}

export const reason = (name) => (REASONS[name] ? pick(REASONS[name][0]) : name);
export const advice = (name) => (REASONS[name] ? pick(REASONS[name][1]) : "");
export const finding = (name) => (FINDINGS[name] ? pick(FINDINGS[name][0]) : name);
export const findingAdvice = (name) => (FINDINGS[name] ? pick(FINDINGS[name][1]) : "");
export const mend = (name) => (MENDS[name] ? pick(MENDS[name]) : name);
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
