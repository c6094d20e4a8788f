"""Names of people in the scripts of their countries: small dictionaries of common names, none of them a real person.

Each language is one entry: given names and family names as they are written there, and, where the script is not
Latin, the same in Latin letters for e-mail addresses. `{f}` and `{g}` say in which order a name is written.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

# Letters that are no plain letter with a mark, so Unicode does not take them apart.
_LATIN = str.maketrans({"ß": "ss", "ø": "o", "Ø": "o", "ł": "l", "Ł": "l", "đ": "d", "Đ": "d", "æ": "ae", "Æ": "ae"})
_LATIN |= str.maketrans({"ı": "i", "ð": "d", "Ð": "d", "þ": "th", "Þ": "th", "ə": "e", "Ə": "e", "ħ": "h", "'": ""})


@dataclass(frozen=True, slots=True)
class Names:
    form: str
    given: tuple[str, ...]
    family: tuple[str, ...]
    given_latin: tuple[str, ...]
    family_latin: tuple[str, ...]

    def name(self, given: int, family: int) -> str:
        return self.form.format(g=self.given[given], f=self.family[family])

    def handle(self, given: int, family: int) -> str:
        """The left side of an e-mail address, in a-z and a dot."""
        return f"{self.given_latin[given]}.{self.family_latin[family]}"


def _latin(word: str) -> str:
    plain = unicodedata.normalize("NFKD", word.translate(_LATIN))
    return "".join(c for c in plain.lower() if "a" <= c <= "z")


def _names(given: str, family: str, given_latin: str = "", family_latin: str = "", form: str = "{g} {f}") -> Names:
    g, f = tuple(given.split()), tuple(family.split())
    gl = tuple(map(_latin, (given_latin or given).split()))
    fl = tuple(map(_latin, (family_latin or family).split()))
    if len(g) != len(gl) or len(f) != len(fl):
        raise ValueError(f"the names {given[:20]}… and their Latin forms are not equally many")
    return Names(form, g, f, gl, fl)


NAMES: dict[str, Names] = {
    "en": _names(
        "James Olivia Liam Emma Noah Ava William Sophia Henry Grace Oscar Ruby Jack Chloe Daniel Hazel",
        "Smith Johnson Williams Brown O'Connor Miller Davis Wilson Clarke Taylor Thomas Moore Walker Harris Lewis",
    ),
    "es": _names(
        "José María Sofía Martín Lucía Mateo Inés Joaquín Ángela Raúl Camila Andrés Belén Tomás Íñigo Paz",
        "García Rodríguez Martínez Hernández López González Pérez Sánchez Ramírez Núñez Muñoz Ibáñez Peña Zúñiga",
    ),
    "pt": _names(
        "João Maria Antônio Luísa Gonçalo Inês Tomás Beatriz Caetano Conceição Estevão Mônica Raquel Vinícius",
        "Silva Santos Araújo Conceição Gonçalves Magalhães Simões Guimarães Falcão Assunção Brandão Leão Paixão",
    ),
    "fr": _names(
        "Éloïse Jérôme Zoé François Chloé Benoît Anaïs Théo Hélène Raphaël Maëlle Gaël Françoise Noël Inès",
        "Lefèvre Dubois Béranger Hervé Gauthier Moreau Lemaître Bézier Noël Fauré Mercier Crété Rousseau Gagné",
    ),
    "de": _names(
        "Jürgen Käthe Björn Anja Günther Sören Mechthild Jörg Ülkü Lena Heiko Bärbel Matthäus Friederike Götz",
        "Müller Schröder Weiß Großmann Köhler Jäger Bäcker Schäfer Krüger Vögele Böhm Döring Fuchs Süß Hübner",
    ),
    "it": _names(
        "Niccolò Giulia Matteo Chiara Lorenzo Noè Ginevra Alessandro Beatrice Tommaso Viola Davide Carolina Pietro",
        "Rossi Ferrari Esposito Bianchi Romano Colombo Ricci Marino Greco Bruno Gallo Conti Cantù Niccolò",
    ),
    "nl": _names(
        "Daan Sanne Joost Noëlle Bram Fenna Zoë Thijs Loïs Gijs Maartje Daniël Roos Sjoerd",
        "Jansen Visser Bakker Meijer Mulder Bos Vos Peeters Hendriks Dekker Brouwer Dijkstra Smits Huisman",
    ),
    "nordic": _names(
        "Åsa Björn Søren Jørgen Märta Øystein Åke Sigríður Þór Freyja Väinö Päivi Göran Håkon Solveig",
        "Lindström Sjöberg Ødegård Åkesson Nygård Hämäläinen Mäkelä Jónsson Østergaard Bjørnstad Virtanen Ågren",
    ),
    "pl": _names(
        "Łukasz Małgorzata Bartłomiej Zofia Józef Agnieszka Błażej Żaneta Wojciech Bożena Paweł Róża Stanisław",
        "Wiśniewski Wójcik Dąbrowski Zieliński Szymański Woźniak Kozłowski Jabłoński Łukasik Żak Ślęzak Gałązka",
    ),
    "cs": _names(
        "Jiří Tereza Ondřej Lucie Tomáš Kateřina Luboš Žofie Matěj Eliška Štěpán Božena Zdeněk Markéta",
        "Dvořák Nováček Svoboda Procházka Kučera Veselý Horák Černý Růžička Beneš Fišer Šimek Krejčí Žižka",
    ),
    "hu": _names(
        "László Erzsébet Gábor Zsófia Bálint Réka Lőrinc Ágnes Ödön Virág Máté Boglárka Győző Kálmán",
        "Nagy Kovács Tóth Szabó Horváth Kőszegi Ürögdi Szűcs Bőhm Győrffy Székely Völgyi Fülöp",
        form="{f} {g}",
    ),
    "ro": _names(
        "Ștefan Ioana Răzvan Mălina Cătălin Ilinca Andrei Ruxandra Bogdan Sânziana Dănuț Ilie",
        "Popescu Ionescu Dumitrașcu Țăran Bălan Nițu Săvulescu Gârbea Crăciun Păun Vâlcu Șerban",
    ),
    "baltic": _names(
        "Jānis Līga Tõnis Õnne Kęstutis Rūta Žygimantas Ieva Mārtiņš Ülle Gintarė Andris",
        "Bērziņš Kalniņš Kazlauskas Petrauskaitė Tamm Mägi Põld Ozoliņš Žukauskas Rebane Liepiņa",
    ),
    "tr": _names(
        "Gülşen Çağlar Şule İbrahim Özge Uğur Ayşe Işıl Ömer Çiğdem Yiğit Gökçe Ülkü Doğan",
        "Yılmaz Öztürk Şahin Çelik Yıldız Aydın Güneş Kılıç Çetin Koç Doğru Şimşek Işık",
    ),
    "sq": _names(
        "Agim Drita Besnik Flutura Gëzim Vjollca Ilir Mimoza", "Hoxha Çela Gjoka Krasniqi Shehu Dërvishi Lleshi"
    ),
    "mt": _names("Ġorġ Marija Pawlu Żepp Ċetta Karmenu Ġanna", "Borg Camilleri Vella Farruġia Żammit Abela Mifsud"),
    "vi": _names(
        "Hương Đức Thảo Minh Ngọc Tuấn Phượng Quân Yến Dũng Ánh Khải Trâm",
        "Nguyễn Trần Lê Phạm Huỳnh Phan Vũ Đặng Bùi Đỗ Ngô Dương",
        form="{f} {g}",
    ),
    "id": _names(
        "Budi Siti Agus Dewi Rizky Putri Wayan Ayu Bambang Indah Joko Kartika",
        "Santoso Wijaya Pratama Siregar Nasution Hidayat Kusuma Lestari Saputra Hartono",
    ),
    "yo": _names(
        "Adébáyọ̀ Fọlákẹ́ Chiọma Ngọzi Olúwaṣeun Kwame Akosua Títílayọ̀ Emeka Yétúndé Kofi Ẹniọlá",
        "Okonkwo Adéyẹmí Ọlátúnjí Mensah Nwáchukwu Balógun Owusu Àkàndé Eze Boateng",
    ),
    "sw": _names(
        "Amani Wanjirũ Baraka Neema Juma Zawadi Otieno Akinyi Kamau Rehema Hassan Imani",
        "Mwangi Odhiambo Kariũki Mushi Kimani Wafula Njoroge Mutua Abdi Nyambura",
    ),
    "af": _names(
        "Thabo Lerato Pieter Naledi Sipho Zanele Johan Nomvula Rüan Tendai Chipo Anél",
        "Dlamini Botha Nkosi Mokoena Venter Khumalo Coetzee Moyo Ndlovu Labuschagné",
    ),
    "ru": _names(
        "Анна Иван Ольга Сергей Екатерина Дмитрий Наталья Алексей Юлия Фёдор Зоя Григорий",
        "Иванова Смирнов Кузнецова Попов Соколова Лебедев Морозова Волков Соловьёва Васильев",
        "anna ivan olga sergei ekaterina dmitri natalia alexei yulia fyodor zoya grigori",
        "ivanova smirnov kuznetsova popov sokolova lebedev morozova volkov solovyova vasilyev",
    ),
    "uk": _names(
        "Олександр Ганна Тарас Їржина Микола Євгенія Богдан Ірина Юрій Соломія",
        "Шевченко Коваленко Бондаренко Ткачук Кравченко Олійник Поліщук Ґонта Лисенко",
        "oleksandr hanna taras yirzhyna mykola yevheniia bohdan iryna yurii solomiia",
        "shevchenko kovalenko bondarenko tkachuk kravchenko oliinyk polishchuk gonta lysenko",
    ),
    "bg": _names(
        "Георги Мария Иван Елена Димитър Йорданка Стоян Љубица Ђорђе Невена",
        "Димитров Петрова Николић Георгиева Јовановић Стојанова Ангелов Тодорова",
        "georgi maria ivan elena dimitar yordanka stoyan ljubica djordje nevena",
        "dimitrov petrova nikolic georgieva jovanovic stojanova angelov todorova",
    ),
    "mn": _names(
        "Бат-Эрдэнэ Оюунчимэг Ганбаатар Солонго Төмөр Энхжаргал Мөнхбат Үүрийнтуяа",
        "Доржийн Баатарын Цэрэнгийн Гомбын Лхагвын Сүхийн",
        "baterdene oyuunchimeg ganbaatar solongo tumur enkhjargal munkhbat uuriintuya",
        "dorjiin baataryn tserengiin gombyn lkhagvyn sukhiin",
        form="{f} {g}",
    ),
    "el": _names(
        "Γιώργος Ελένη Δημήτρης Αικατερίνη Νίκος Σοφία Κώστας Βασιλική Ιωάννης Χρυσούλα",
        "Παπαδόπουλος Βλάχος Οικονόμου Γεωργίου Καραγιάννης Μακρή Αγγελόπουλος Ψαρρά",
        "giorgos eleni dimitris aikaterini nikos sofia kostas vasiliki ioannis chrysoula",
        "papadopoulos vlachos oikonomou georgiou karagiannis makri angelopoulos psarra",
    ),
    "hy": _names(
        "Արամ Անահիտ Հայկ Նարե Տիգրան Շուշան Վահան Լուսինե",
        "Հակոբյան Սարգսյան Պետրոսյան Գրիգորյան Մկրտչյան Ավետիսյան",
        "aram anahit hayk nare tigran shushan vahan lusine",
        "hakobyan sargsyan petrosyan grigoryan mkrtchyan avetisyan",
    ),
    "ka": _names(
        "გიორგი ნინო ლევან თამარ დავით ქეთევან ზურაბ მარიამ",
        "ბერიძე კაპანაძე გელაშვილი მაისურაძე ლომიძე წიკლაური",
        "giorgi nino levan tamar davit ketevan zurab mariam",
        "beridze kapanadze gelashvili maisuradze lomidze tsiklauri",
    ),
    "ar": _names(
        "محمد فاطمة أحمد ليلى يوسف مريم عمر زينب خالد نور حسن سلمى",
        "العلي الحسن المصري الخطيب حداد النجار الشامي بغدادي السعيد منصور",
        "mohammed fatima ahmed layla youssef maryam omar zainab khaled nour hassan salma",
        "alali alhassan almasri alkhatib haddad alnajjar alshami baghdadi alsaid mansour",
    ),
    "fa": _names(
        "پریسا کیان شیرین آرش نسرین بهرام گلناز رستم",
        "کریمی حسینی رضایی پناهی چگینی ژاله",
        "parisa kian shirin arash nasrin bahram golnaz rostam",
        "karimi hosseini rezaei panahi chegini jaleh",
    ),
    "ur": _names(
        "عائشہ بلال ثنا فیصل حنا عمران زینب شاہد",
        "خان احمد قریشی ملک چودھری بھٹی",
        "ayesha bilal sana faisal hina imran zainab shahid",
        "khan ahmed qureshi malik chaudhry bhatti",
    ),
    "he": _names(
        "נועה דוד תמר יוסף מיכל אורי רחל איתן",
        "כהן לוי מזרחי פרץ ביטון אברהם פרידמן",
        "noa david tamar yosef michal uri rachel eitan",
        "cohen levi mizrahi peretz biton avraham friedman",
    ),
    "hi": _names(
        "आरव प्रिया अर्जुन दीपिका विक्रम अनन्या रोहन ज्योति संजय मीरा कृष्ण लक्ष्मी",
        "शर्मा वर्मा गुप्ता सिंह पटेल मिश्रा चौहान जोशी अय्यर राव",
        "aarav priya arjun deepika vikram ananya rohan jyoti sanjay meera krishna lakshmi",
        "sharma verma gupta singh patel mishra chauhan joshi iyer rao",
    ),
    "bn": _names(
        "রহিম সুমাইয়া কামাল নাসরিন আরিফ শর্মিলা তানভীর মৌসুমী",
        "হোসেন আহমেদ চৌধুরী ইসলাম রহমান সরকার",
        "rahim sumaiya kamal nasrin arif sharmila tanvir moushumi",
        "hossain ahmed chowdhury islam rahman sarkar",
    ),
    "ta": _names(
        "முருகன் கவிதா செல்வம் மீனாட்சி கார்த்திக் தமிழ்ச்செல்வி",
        "சுப்பிரமணியம் ராஜேந்திரன் கணேசன் பாலசுந்தரம் நடராஜன்",
        "murugan kavitha selvam meenakshi karthik tamilselvi",
        "subramaniam rajendran ganesan balasundaram natarajan",
    ),
    "th": _names(
        "สมชาย มาลี ประเสริฐ กนกวรรณ ธนพล สุดารัตน์ วิชัย อรทัย",
        "ศรีสุข ทองดี ใจดี แสงทอง บุญมี วงศ์สวัสดิ์",
        "somchai malee prasert kanokwan thanapol sudarat wichai orathai",
        "srisuk thongdee jaidee saengthong boonmee wongsawat",
    ),
    "km": _names("សុខា ដារា ស្រីមុំ វិចិត្រ", "ស៊ុន ចាន់ ហេង លី", "sokha dara sreymom vichet", "sun chan heng ly", form="{f} {g}"),
    "lo": _names(
        "ບຸນມີ ສົມພອນ ຄຳແພງ ມະນີ", "ວົງສາ ພົມມະຈັນ ສີສຸກ", "bounmy somphone khampheng manee", "vongsa phommachan sisouk"
    ),
    "my": _names(
        "အောင် သီတာ မင်း ခင်", "ဦးကျော် ဒေါ်လှ မောင်ထွန်း", "aung thida min khin", "ukyaw dawhla maungtun", form="{f} {g}"
    ),
    "ja": _names(
        "太郎 さくら 健一 花子 大翔 結衣 アキラ 美咲 翔太 ひなた 蓮 葵",
        "佐藤 鈴木 高橋 田中 渡辺 伊藤 山本 中村 小林 齋藤",
        "taro sakura kenichi hanako hiroto yui akira misaki shota hinata ren aoi",
        "sato suzuki takahashi tanaka watanabe ito yamamoto nakamura kobayashi saito",
        form="{f} {g}",
    ),
    "zh": _names(
        "伟 芳 秀英 敏 静 建国 丽丽 子涵 浩然 雨桐 志強 美玲",
        "王 李 張 刘 陈 楊 赵 黃 周 吴 歐陽",
        "wei fang xiuying min jing jianguo lili zihan haoran yutong zhiqiang meiling",
        "wang li zhang liu chen yang zhao huang zhou wu ouyang",
        form="{f}{g}",
    ),
    "ko": _names(
        "민준 서연 도윤 지우 하은 준서 수아 현우 예은 지훈",
        "김 이 박 최 정 강 조 윤 장 임",
        "minjun seoyeon doyun jiwoo haeun junseo sua hyunwoo yeeun jihoon",
        "kim lee park choi jung kang cho yoon jang lim",
        form="{f}{g}",
    ),
    "am": _names(
        "አበበ ሰላም ዳዊት ሂሩት ተስፋዬ መስከረም ዮሐንስ ብርሃን",
        "ከበደ ታደሰ ገብረ በቀለ ወልደ አሰፋ",
        "abebe selam dawit hirut tesfaye meskerem yohannes berhan",
        "kebede tadesse gebre bekele wolde assefa",
    ),
}
