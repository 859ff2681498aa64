"""Sentences by language that contain apparent ends: abbreviations, initials, numbers, quotations."""

from __future__ import annotations

from itertools import pairwise

from steadyvoice.speech.sentences import SentenceFinder, sentence_ends

CORPUS: dict[str, list[list[str]]] = {
    "en": [
        ["He lives at 12 Main St. in Springfield.", "It is quiet there."],
        ["A novel by J. Smith is on the table.", "Read it.", "It is good."],
        ["See No. 5 for details.", "Thanks."],
        ["We leave at 3 a.m. tomorrow.", "Bring a coat.", "Dinner is at 7 p.m. Eastern time."],
        ["Dr. Brown met Mrs. Jones, Mr. Lee and Prof. Adams.", "They talked."],
        ["Bring fruit, e.g. apples, i.e. food.", "The U.S. Senate met.", "Apple Inc. announced it."],
        ["Pi is 3.14159 and v2.0.1 is out.", "It costs $1,000.50.", "The rate fell by -0.5 percent."],
        ["J. R. R. Tolkien wrote it.", "George W. Bush read it.", "So did D.H. Lawrence."],
        ["Wait... what did you say?", "Really?!", "Yes!!!", "Fine."],
        ['"Stop!" he said.', 'She asked, "Why?" and left.', "He said “Stop.”", "Then he left."],
        ["Visit https://example.org/a.b?c=d!e for more.", "Mail me@example.org.", "See example.com."],
        ["St. Mary’s Church is near Mt. Everest vs. Ft. Worth.", "Really."],
        ["It opens Jan. 5, closes Sept. 30, at approx. 5 ft. 3 in. of snow.", "Nobody comes."],
        ["Fig. 3 and Eq. 4 on p. 12 (cf. pp. 13-15, vol. 2) show it.", "See Sec. 5."],
        ["The meeting (on Friday. No, Monday.) was long.", "We slept."],
        ["1. Open the box.", "2. Take the key.", "3. Go."],
        ["Lt. Col. Sanders, Sgt. Pepper and Gen. Lee came, Jr. and Sr. alike.", "They sang."],
        ["He earned a Ph.D. in physics.", "She has a B.A. from Yale.", "Good for them."],
    ],
    "de": [
        ["Wir kommen z. B. am 3. Mai nach Berlin.", "Das ist gut."],
        ["Dr. Müller und Prof. Dr. Schmidt sind d. h. waren da.", "Sie gehen."],
        ["Das kostet 3.500 Euro bzw. 3,5 Tsd. Euro.", "Das ist viel."],
        ["Der 2. Weltkrieg endete im 20. Jahrhundert.", "Karl V. war Kaiser."],
        ["Er wohnt in der Hauptstr. 5 in St. Gallen.", "Sie wohnt dort ca. seit dem 1. 1. 2020."],
        ["Siehe Abb. 3 auf S. 12 ff. im 2. Kap. von Bd. 4.", "Danke."],
        ["„Halt!“, rief er.", "„Warum?“", "Sie ging u. a. wegen des Wetters."],
        ["Am 24. Dezember um 18.30 Uhr gibt es Tee, Kaffee usw. für alle.", "Kommt!"],
        ["Hr. Meier, Fr. Huber und J. S. Bach sind i. d. R. pünktlich.", "Wir auch."],
    ],
    "fr": [
        ["M. Dupont et Mme. Durand sont arrivés.", "Ils parlent."],
        ["Il a dit : « Bonjour. »", "Puis il est parti."],
        ["« Pourquoi ? » demanda-t-elle.", "Il ne répondit pas."],
        ["Voir p. 12, fig. 3, art. 5 et chap. 2, etc. dans le livre.", "Merci."],
        ["Le Dr. Martin et Mlle. Petit habitent au 5 av. Foch.", "C’est loin."],
        ["J.-P. Sartre et A. Camus ont écrit env. 30 livres.", "Lisez !"],
        ["Cela coûte 3.500,50 euros.", "C’est trop cher !"],
    ],
    "es": [
        ["¿Cómo estás?", "¡Muy bien!", "El Sr. García y la Sra. López llegaron."],
        ["Véase la pág. 5, el art. 3 y el núm. 7.", "Gracias."],
        ["El Dr. Pérez vive en la Av. Bolívar, No. 12.", "Es médico."],
        ["Ud. y Uds. saben que EE. UU. es grande.", "Claro."],
        ["Cuesta 3.500,50 euros aprox. por persona.", "Es caro."],
        ["—¿Vienes? —preguntó ella.", "—No."],
    ],
    "it": [
        ["Il Sig. Rossi e la Sig.ra Bianchi sono qui.", "Parlano."],
        ["Il Dott. Verdi e l’Ing. Neri abitano in P.zza Dante.", "Bene."],
        ["Vedi pag. 5, art. 3, fig. 2, ecc. nel libro.", "Grazie."],
        ["L’Avv. G. Conte e il Prof. M. Monti parlano.", "Ascolta!"],
        ["Costa 3.500 euro ca. al mese.", "È caro."],
    ],
    "pt": [
        ["O Sr. Silva e a Sra. Costa chegaram.", "Eles falam."],
        ["O Dr. Souza mora na Av. Paulista, n. 5.", "É longe."],
        ["Veja a pág. 12, o art. 3 e a fig. 4.", "Obrigado."],
        ["O Prof. J. Santos ganhou R$ 3.500,00.", "Que bom!"],
    ],
    "nl": [
        ["Dhr. Jansen en mevr. de Vries komen a.s. maandag.", "Goed."],
        ["Dr. Bakker en prof. dr. Visser zijn er, d.w.z. bijna.", "Ja."],
        ["Zie blz. 12, nr. 5 en fig. 3, enz. in het boek.", "Bedankt."],
        ["Hij woont o.a. in Amsterdam, m.a.w. ver weg.", "Jammer."],
    ],
    "pl": [
        ["Np. prof. Kowalski i dr Nowak mieszkają przy ul. Długiej 5.", "Dobrze."],
        ["Urodził się w 1999 r. w Krakowie, tj. dawno.", "Tak."],
        ["Zob. str. 12, rys. 3, itd. w książce.", "Dziękuję."],
        ["Dnia 3. maja o godz. 15.30 spotkamy się m.in. z J. Kowalskim.", "Do zobaczenia!"],
    ],
    "ru": [
        ["Он родился в 1999 г. в Москве.", "Это было давно."],
        ["А. С. Пушкин писал стихи, т. е. поэзию, и т. д. и т. п. для всех.", "Читайте!"],
        ["Г-н Иванов живёт на ул. Ленина, д. 5, кв. 3.", "Это далеко."],
        ["См. рис. 3, стр. 12 и гл. 2.", "Спасибо."],
        ["Проф. Петров и акад. Павлов получили 3 тыс. руб. за работу.", "Хорошо."],
    ],
    "uk": [
        ["Він народився у 1999 р. у Києві.", "Це було давно."],
        ["Т. Г. Шевченко писав вірші, тобто поезію, і т. д. для всіх.", "Читайте!"],
        ["Див. рис. 3 та стор. 12.", "Дякую."],
    ],
    "cs": [
        ["Dr. Novák bydlí v ul. Dlouhé č. 5, tj. daleko.", "Ano."],
        ["Dne 3. května v 15.30 hod. přijde např. J. Novák.", "Dobře."],
        ["Karel IV. byl král ve 14. století.", "Velký."],
    ],
    "sv": [
        ["Dr. Svensson bor t.ex. på Storg. 5, dvs. nära.", "Bra."],
        ["Se s. 12, fig. 3, osv. i boken.", "Tack."],
    ],
    "da": [
        ["Hr. Jensen kommer den 3. maj kl. 15.30, dvs. snart.", "Godt."],
        ["Se f.eks. s. 12 og nr. 5.", "Tak."],
    ],
    "no": [["Hr. Hansen kommer 3. mai kl. 15.30, dvs. snart.", "Bra."]],
    "fi": [["Esim. tri Virtanen tulee 3. toukokuuta klo 15.30, ts. pian.", "Hyvä."]],
    "hu": [["Dr. Kovács május 3. napján jön, pl. a Kossuth u. 5. számba.", "Jó."]],
    "tr": [["Dr. Yılmaz ve Prof. Kaya 3. katta oturuyor, vb. şeyler.", "Tamam."]],
    "ro": [["Dl. Popescu și dna. Ionescu locuiesc pe str. Lungă nr. 5.", "Bine."]],
    "el": [
        ["Πώς είσαι;", "Είμαι καλά.", "Ο κ. Παπαδόπουλος ήρθε."],
        ["Π.χ. ο Δρ. Νικολάου μένει στην οδό Ερμού αρ. 5.", "Ναι."],
    ],
    "id": [["Dr. Budi tinggal di Jl. Merdeka No. 5, dll. yang jauh.", "Baik."]],
    "vi": [["TS. Nguyễn sống ở TP. Hồ Chí Minh.", "Tốt."]],
    "ar": [["كيف حالك؟", "أنا بخير.", "شكرا لك!"], ["وصل د. أحمد اليوم.", "أهلا."]],
    "fa": [["حال شما چطور است؟", "خوبم.", "ممنون!"]],
    "ur": [["یہ پہلا جملہ ہے۔", "یہ دوسرا ہے۔", "کیا؟"]],
    "he": [["מה שלומך?", "טוב מאוד.", "תודה!"], ["ד״ר כהן גר ברח׳ הרצל 5.", "רחוק."]],
    "hi": [
        ["यह पहला वाक्य है।", "यह दूसरा है।", "क्या?", "हाँ!"],
        ["डॉ. शर्मा और प्रो. वर्मा आए।", "वे बैठे।"],
        ["श्री. के. एल. राहुल ने 3.5 कि.मी. की दौड़ लगाई।", "अच्छा।"],
    ],
    "bn": [["ডা. রায় এসেছেন।", "তিনি ভালো।", "কেন?"]],
    "ta": [["இது முதல் வாக்கியம்.", "இது இரண்டாவது.", "ஏன்?"]],
    "ko": [["오늘은 비가 옵니다.", "내일은 맑습니다!", "정말요?", "네."]],
    "zh": [
        ["今天下雨。", "明天晴天！", "你好吗？", "好……"],
        ["“你好。”他说。", "然后他走了。"],
        ["价格是3.5元（约合0.5美元）。", "不贵。"],
    ],
    "ja": [
        ["今日は雨です。", "明日は晴れ！", "元気ですか？", "はい。"],
        ["「明日は晴れ。」と言った。", "そして帰った。"],
        ["「本当？」って聞いた。", "彼は黙った……"],
        ["円周率は3.14です。", "覚えた。"],
    ],
    "hy": [["Բարև ձեզ։", "Ես լավ եմ։"]],
    "am": [["ሰላም ነው።", "እንዴት ነህ?", "ደህና።"]],
    "my": [["မင်္ဂလာပါ။", "နေကောင်းလား။"]],
    "km": [["សួស្តី។", "ខ្ញុំសុខសប្បាយ។"]],
    "th": [["สวัสดีครับ วันนี้ฝนตก พรุ่งนี้แดดออก"]],
}

UNSPACED = frozenset({"zh", "ja"})


def text_of(language: str, sentences: list[str]) -> str:
    """Join sentences to a text."""
    return ("" if language in UNSPACED else " ").join(sentences)


def cuts_of(language: str, sentences: list[str]) -> set[int]:
    """Return the offsets at which a sentence ends and another begins."""
    gap = 0 if language in UNSPACED else 1
    ends, place = set[int](), 0
    for sentence in sentences[:-1]:
        place += len(sentence) + gap
        ends.add(place)
    return ends


def split_sentences(text: str, language: str | None = None, find: SentenceFinder | None = None) -> list[str]:
    """Split a text behind each sentence. The pieces, joined, are the text again."""
    ends = [0, *sentence_ends(text, language, find), len(text)]
    return [text[begin:end] for begin, end in pairwise(ends) if end > begin]
